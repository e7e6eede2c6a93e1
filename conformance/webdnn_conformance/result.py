"""What became of a case on a backend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from webdnn_conformance.case import Facts
from webdnn_conformance.expectations import Expectations

__all__ = ["BAD", "STATUSES", "CaseResult", "Outcome", "Run", "expect"]

STATUSES: Mapping[str, str] = {
    "pass": "both judges agree with every output",
    "fail": "an output differs",
    "error": "the converter or the runtime raised an error",
    "crash": "the browser's tab or the process died",
    "timeout": "no answer within the time for one case",
    "unimplemented": "the compiler has no lowering for an operator in it",
    "placed": "right, but compute steps left the backend although --strict is given",
    "skip": "an expectation says not to run it",
    "xfail": "it fails, as an expectation says",
    "xpass": "it passes although an expectation says that it fails: delete the entry",
}
"""Every state that a case can be in, and what it means."""

BAD = frozenset({"fail", "error", "crash", "timeout", "unimplemented", "placed", "xpass"})
"""States that fail the run."""


@dataclass(frozen=True)
class Outcome:
    """One case on one backend.

    message: why it is no pass; of a pass, a note. ulp, error: of the worst element against the reference.
    steps: compute steps of the program. placed: those that left the backend, as (kernel, reason). adapter: the GPU.
    load_ms, run_ms: in the engine.
    """

    backend: str
    status: str
    message: str = ""
    ulp: float = 0.0
    error: float = 0.0
    steps: int = 0
    placed: tuple[tuple[str, str], ...] = ()
    adapter: str = ""
    load_ms: float = 0.0
    run_ms: float = 0.0


@dataclass(frozen=True)
class CaseResult:
    """One case on every backend. convert_ms: for all backends together. detail: name of its record with the tensors.
    engine: name and version of what ran it."""

    id: str
    facts: Facts
    outcomes: tuple[Outcome, ...]
    convert_ms: float = 0.0
    detail: str = ""
    engine: str = ""


@dataclass
class Run:
    """A whole run. problems: what else is wrong, such as entries that match nothing. stopped: it was interrupted."""

    backends: Sequence[str]
    engine: str
    engine_version: str = ""
    results: list[CaseResult] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    expectations: Mapping[str, Expectations] = field(default_factory=dict)
    seconds: float = 0.0
    stopped: bool = False

    @property
    def failed(self) -> bool:
        """Whether anything unexpected happened."""
        return bool(self.problems) or any(True for _ in self.failures())

    def failures(self) -> Iterable[tuple[CaseResult, Outcome]]:
        """The outcomes that fail the run, in the order of the results."""
        return ((one, outcome) for one in self.results for outcome in one.outcomes if outcome.status in BAD)


def expect(outcome: Outcome, expectations: Expectations, case_id: str) -> Outcome:
    """The outcome in the light of the backend's expectations."""
    entry = expectations.find(case_id)
    if entry is None or entry.status != "xfail" or outcome.status == "skip":
        return outcome
    if outcome.status in BAD:
        message = f"{entry.reason} ({outcome.status}: {outcome.message})"
        return replace(outcome, status="xfail", message=message)
    return replace(outcome, status="xpass", message=f"expected to fail ({entry.reason}), passes")
