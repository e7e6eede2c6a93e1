"""`webdnn conformance`: cases on every backend in a real engine, judged by the reference and by the suites."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from webdnn_conformance.result import BAD, CaseResult, Outcome, Run
from webdnn_conformance.worker import Options, check_engine
from webdnn_onnx.cli.progress import Progress
from webdnn_onnx.cli.table import format_table
from webdnn_onnx.errors import InvalidModelError, OutputError

__all__ = ["main", "run"]

_BACKENDS = ("js", "wasm", "webgpu")
_STEP = 200
_LISTED = 40


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m webdnn_conformance`, which is `webdnn conformance`."""
    from webdnn_onnx.cli.main import main as webdnn

    return webdnn(["conformance", *(sys.argv[1:] if arguments is None else arguments)])


def run(arguments: argparse.Namespace) -> int:
    """Run the cases; 1 if something fails that is not expected to."""
    from webdnn_conformance.runner import run_conformance, select

    backends = _choice("--backend", arguments.backend, _BACKENDS)
    suites = [name for item in arguments.suite for name in item.split(",")]
    work, known = select(suites, arguments.filter, arguments.models)
    if arguments.list:
        print("\n".join(case_id for _, case_id in work))
        return 0
    _check_outputs(arguments)
    check_engine(arguments.engine, arguments.browser_endpoint or "")
    jobs = arguments.jobs if arguments.jobs is not None else min(os.cpu_count() or 1, 16)
    with tempfile.TemporaryDirectory(prefix="webdnn-conformance-") as folder, Progress() as progress:
        options = Options(
            backends=backends,
            engine=arguments.engine,
            gpu=arguments.gpu,
            endpoint=arguments.browser_endpoint or "",
            strict=arguments.strict,
            timeout=arguments.timeout,
            details=Path(folder) if arguments.html or arguments.kernels else None,
            expectations=arguments.expectations,
        )
        bad: Counter[str] = Counter()
        quiet = not sys.stderr.isatty()

        def tell(result: CaseResult, done: int, total: int) -> None:
            for outcome in result.outcomes:
                bad[outcome.backend] += outcome.status in BAD
            failing = ", ".join(f"{name} {count}" for name, count in bad.items() if count) or "none"
            progress(f"{done} of {total} cases; failing: {failing}; {result.id}", done / total)
            if quiet and (done % _STEP == 0 or done == total):
                print(f"conformance: {done} of {total} cases; failing: {failing}", file=sys.stderr, flush=True)

        found = run_conformance(work, options, jobs=jobs, known=known, tell=tell)
        progress.clear()
        # What there is gets reported; a second interrupt ends that too.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _print(found, arguments)
        if arguments.kernels:
            _print_kernels(found, Path(folder))
        _write_reports(found, arguments, Path(folder))
    return 130 if found.stopped else int(found.failed)


def _choice(option: str, given: Sequence[str], allowed: Sequence[str]) -> tuple[str, ...]:
    names = [name for item in given for name in item.split(",")]
    for name in names:
        if name not in allowed:
            raise InvalidModelError(f"{option}: expected some of {', '.join(allowed)}, got {name!r}")
    return tuple(dict.fromkeys(names))


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Before a long run: whether its reports can be written at all. Raises OutputError."""
    from webdnn_conformance.report import refuse_foreign

    if arguments.html:
        refuse_foreign(arguments.html)
    files = {"--json": arguments.json, "--junit": arguments.junit}
    for option, path in files.items():
        if path and path.is_dir():
            raise OutputError(f"{option} {path}: expected a file to write, got a folder")
    folders = {"--html": arguments.html, "--scoreboard": arguments.scoreboard}
    folders |= {option: path.parent for option, path in files.items() if path}
    for option, folder in folders.items():
        if folder is None:
            continue
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK):
            raise OutputError(f"{option}: expected a folder that can be written, got {existing}")


def _print(found: Run, arguments: argparse.Namespace) -> None:
    failures = list(found.failures())
    if arguments.verbose or len(failures) <= _LISTED:
        for result, outcome in failures:
            print(f"{outcome.status.upper()} {result.id} on {outcome.backend}: {outcome.message}")
            print(f"    {rerun_command(result.id, outcome, arguments)}")
    else:
        print(_causes(failures))
    for one in found.results:
        for note in dict.fromkeys(item.message for item in one.outcomes if item.status == "pass" and item.message):
            print(f"NOTE {one.id}: {note}")
    for problem in found.problems:
        print(f"PROBLEM {problem}")
    print(_summary(found))
    if found.stopped:
        print("interrupted: these are the cases that were done")


def rerun_command(case_id: str, outcome: Outcome, arguments: argparse.Namespace) -> str:
    """One line that runs just this case on this backend, and prints the kernel."""
    parts = ["webdnn conformance", f"--backend {outcome.backend}", f"--suite {case_id.partition('/')[0]}"]
    parts += [f"--engine {arguments.engine}"] if arguments.engine != "chromium" else []
    parts += [f"--models {arguments.models}"] if case_id.startswith("models/") and arguments.models else []
    parts += [f"--gpu {arguments.gpu}"] if arguments.gpu != "auto" else []
    parts += [f"--browser-endpoint {arguments.browser_endpoint}"] if arguments.browser_endpoint else []
    parts += [f"--expectations {arguments.expectations}"] if arguments.expectations else []
    parts += ["--strict"] if arguments.strict else []
    return " ".join([*parts, f"--filter {case_id}", "--jobs 0 --kernels"])


def _causes(failures: Sequence[tuple[CaseResult, Outcome]]) -> str:
    """Many failures by what they have in common, the most frequent first; --verbose lists each."""
    import re

    groups: dict[tuple[str, str], list[tuple[CaseResult, Outcome]]] = {}
    for result, outcome in failures:
        text = re.sub(r"'[^']*'|\(opset \d+\)|\S*\d\S*", "…", outcome.message)[:110]
        groups.setdefault((outcome.status, text), []).append((result, outcome))
    rows = []
    for (status, text), members in sorted(groups.items(), key=lambda item: -len(item[1])):
        per_backend = Counter(outcome.backend for _, outcome in members)
        counts = " ".join(f"{name} {count}" for name, count in per_backend.items())
        rows.append((status, counts, text, members[0][0].id))
    shown = rows[:_LISTED]
    more = [f"... and {len(rows) - len(shown)} more causes"] if len(rows) > len(shown) else []
    return "\n".join([format_table(("status", "cases", "message", "first case"), shown), *more])


def _summary(found: Run) -> str:
    suites = sorted({"/".join(result.id.split("/")[:2]) for result in found.results})
    rows = []
    for suite in suites:
        members = [result for result in found.results if result.id.startswith(f"{suite}/")]
        for backend in found.backends:
            outcomes = [outcome for one in members for outcome in one.outcomes if outcome.backend == backend]
            counts = Counter(outcome.status for outcome in outcomes)
            numeric = [
                outcome
                for one in members
                if one.facts.numeric
                for outcome in one.outcomes
                if outcome.backend == backend
            ]
            home = sum(outcome.status == "pass" and not outcome.placed for outcome in numeric)
            others = ", ".join(f"{status} {count}" for status, count in counts.most_common() if status != "pass")
            share = f"{counts['pass'] / max(1, len(outcomes)):.1%}"
            on = f"{home / max(1, len(numeric)):.1%}"
            rows.append((suite, backend, f"{counts['pass']}/{len(outcomes)}", share, on, others))
    table = format_table(("suite", "backend", "pass", "", "numeric on it", "others"), rows, right=(2, 3, 4))
    convert = sum(result.convert_ms for result in found.results) / max(1, len(found.results))
    load = sum(outcome.load_ms + outcome.run_ms for one in found.results for outcome in one.outcomes)
    adapters = sorted({outcome.adapter for one in found.results for outcome in one.outcomes if outcome.adapter})
    where = f"{found.engine} ({', '.join(adapters)})" if adapters else found.engine
    return (
        f"{table}\n{len(found.results)} cases in {found.seconds:.1f} s in {where}; "
        f"conversion {convert:.0f} ms a case, engine {load / max(1, len(found.results)):.0f} ms a case"
    )


def _print_kernels(found: Run, folder: Path) -> None:
    import json

    from webdnn_conformance.details import read_detail

    for result in found.results[:3]:
        if result.detail:
            for backend, text in json.loads(read_detail(folder, result.detail))["kernels"].items():
                print(f"\n--- {result.id}: {backend}\n{text}")


def _write_reports(found: Run, arguments: argparse.Namespace, folder: Path) -> None:
    from webdnn_conformance import report

    try:
        if arguments.json:
            report.write_json(found, arguments.json)
        if arguments.junit:
            report.write_junit(found, arguments.junit)
        if arguments.scoreboard:
            report.write_scoreboard(found, arguments.scoreboard)
        if arguments.html:
            report.write_html(found, arguments.html, folder)
            print(f"report: {arguments.html / 'index.html'}")
    except OSError as error:
        raise OutputError(f"report: cannot write {error.filename or ''}: {error.strerror or error}") from error
