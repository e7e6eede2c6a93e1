"""A run as a whole: which cases, in which processes, with what in the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from webdnn_conformance.case import selects
from webdnn_conformance.pool import run_in_place, run_in_processes
from webdnn_conformance.result import CaseResult, Run
from webdnn_conformance.store import Pack
from webdnn_conformance.suites import load_suite
from webdnn_conformance.worker import Options
from webdnn_onnx.errors import InvalidModelError

__all__ = ["run_conformance", "select"]

Tell = Callable[[CaseResult, int, int], None]
"""Called with every result, how many there are, and how many there will be."""


def select(
    suites: Sequence[str], patterns: Sequence[str], models: Path | None = None
) -> tuple[list[tuple[Path, str]], list[str]]:
    """The cases of suites that the patterns select, and the ids of all cases of these suites.

    Raises InvalidModelError if a suite is unknown or a pattern selects nothing.
    """
    packs = [pack for suite in suites for pack in load_suite(suite, models=models)]
    every = [(pack, case_id) for pack in packs for case_id in pack]
    for pattern in patterns:
        if not any(selects([pattern], case_id) for _, case_id in every):
            raise InvalidModelError(f"--filter: expected part of a case id of {', '.join(suites)}, got {pattern!r}")
    chosen = [(pack.path, case_id) for pack, case_id in every if selects(patterns, case_id)]
    return _slow_first(packs, chosen), [case_id for _, case_id in every]


def _slow_first(packs: Sequence[Pack], chosen: list[tuple[Path, str]]) -> list[tuple[Path, str]]:
    """Whole networks before single operators, so that the end of a run is not one process with one large case."""
    facts = {pack.path: pack for pack in packs}
    return sorted(chosen, key=lambda item: (facts[item[0]].facts(item[1]).op != "composite",))


def run_conformance(
    work: Sequence[tuple[Path, str]],
    options: Options,
    *,
    jobs: int,
    known: Sequence[str] = (),
    tell: Tell | None = None,
) -> Run:
    """Run cases. jobs: processes; 0 runs them in this one. known: ids of whole suites, for entries that match nothing.

    An interrupt ends the run with the results that there are.
    """
    from webdnn_conformance.expectations import load_expectations

    run = Run(options.backends, options.engine)
    run.expectations = {
        name: load_expectations(name, options.engine, options.expectations) for name in options.backends
    }
    start = time.monotonic()
    results = run_in_processes(work, options, jobs) if jobs else run_in_place(work, options)
    try:
        for result in results:
            run.results.append(result)
            if tell is not None:
                tell(result, len(run.results), len(work))
    except KeyboardInterrupt:
        run.stopped = True
    finally:
        results.close()  # type: ignore[attr-defined]  # both are generators
    order = {case_id: position for position, (_, case_id) in enumerate(sorted(work, key=lambda item: item[1]))}
    run.results.sort(key=lambda result: order[result.id])
    run.seconds = time.monotonic() - start
    run.engine_version = next((result.engine for result in run.results if result.engine), "")
    for name, expectations in run.expectations.items():
        for entry in expectations.unused(known):
            run.problems.append(
                f"expectations/{name}.toml: {entry.id}: expected to match a case, matches none: delete it"
            )
    if not run.stopped and len(run.results) != len(work):
        missing = Counter(case_id for _, case_id in work) - Counter(result.id for result in run.results)
        run.problems.append(f"{len(work)} cases were to run, {len(run.results)} did: {', '.join(list(missing)[:3])}")
    return run
