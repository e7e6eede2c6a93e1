"""A run for other tools: JUnit XML, and the files of the ONNX backend scoreboard.

The scoreboard reads, per backend, report.json (names of the package's tests by what became of them) and trend.json
(totals by date). https://github.com/onnx/backend-scoreboard
"""

from __future__ import annotations

import datetime
import json
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree

import onnx

from webdnn_conformance.result import BAD, CaseResult, Outcome, Run

__all__ = ["write_junit", "write_scoreboard"]

_ERRORS = ("error", "crash", "timeout")


def write_junit(run: Run, path: Path) -> None:
    """One test suite per suite, kind and backend; expected failures are reported as skipped."""
    root = ElementTree.Element("testsuites", name="webdnn conformance", time=f"{run.seconds:.1f}")
    groups: dict[tuple[str, str], list[tuple[CaseResult, Outcome]]] = {}
    for result in run.results:
        kind = "/".join(result.id.split("/")[:2])
        for outcome in result.outcomes:
            groups.setdefault((kind, outcome.backend), []).append((result, outcome))
    for (kind, backend), members in sorted(groups.items()):
        statuses = [outcome.status for _, outcome in members]
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=f"{kind} on {backend}",
            tests=str(len(members)),
            failures=str(sum(status in BAD and status not in _ERRORS for status in statuses)),
            errors=str(sum(status in _ERRORS for status in statuses)),
            skipped=str(sum(status in ("skip", "xfail") for status in statuses)),
        )
        for result, outcome in members:
            _testcase(suite, result, outcome)
    for problem in run.problems:
        suite = ElementTree.SubElement(root, "testsuite", name="run", tests="1", failures="1", errors="0", skipped="0")
        case = ElementTree.SubElement(suite, "testcase", classname="run", name="expectations")
        ElementTree.SubElement(case, "failure", message=_printable(problem))
    ElementTree.indent(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _testcase(suite: ElementTree.Element, result: CaseResult, outcome: Outcome) -> None:
    group, _, name = result.id.rpartition("/")
    seconds = f"{(outcome.load_ms + outcome.run_ms) / 1e3:.4f}"
    case = ElementTree.SubElement(
        suite, "testcase", classname=f"{outcome.backend}.{group.replace('/', '.')}", name=name, time=seconds
    )
    message = _printable(outcome.message)
    if outcome.status in BAD:
        tag = "error" if outcome.status in _ERRORS else "failure"
        ElementTree.SubElement(case, tag, type=outcome.status, message=message)
    elif outcome.status != "pass":
        ElementTree.SubElement(case, "skipped", message=message)


def _printable(text: str) -> str:
    """XML 1.0 has no control characters."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def write_scoreboard(run: Run, folder: Path) -> None:
    """Write report.json and trend.json for each backend of a run of the suite `onnx`."""
    now = datetime.datetime.now(datetime.UTC).strftime("%m/%d/%Y %H:%M:%S")
    versions = [
        {"name": "webdnn-onnx", "version": metadata.version("webdnn-onnx")},
        {"name": "onnx", "version": onnx.__version__},
    ]
    for backend in run.backends:
        names: dict[str, list[str]] = {"passed": [], "failed": [], "skipped": []}
        for result in run.results:
            for outcome in result.outcomes:
                if outcome.backend == backend and result.id.startswith("onnx/"):
                    state = {"pass": "passed", "skip": "skipped"}.get(outcome.status, "failed")
                    names[state].append(f"test_{result.id.rpartition('/')[2]}_cpu")
        target = folder / f"webdnn-onnx-{backend}"
        target.mkdir(parents=True, exist_ok=True)
        report = {"date": now, **{key: sorted(value) for key, value in names.items()}}
        (target / "report.json").write_text(json.dumps(report, indent=1) + "\n")
        path = target / "trend.json"
        trend = json.loads(path.read_text()) if path.is_file() else []
        operators = {result.facts.op for result in run.results if result.id.startswith("onnx/node/")}
        totals = {key: len(value) for key, value in names.items()}
        trend.append({"date": now, **totals, "total_ops": len(operators), "versions": versions})
        path.write_text(json.dumps(trend, indent=1) + "\n")
