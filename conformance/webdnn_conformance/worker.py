"""Runs cases one after the other: converts each, runs it on every backend in one engine, compares.

A worker is a process of its own (see pool.py), or is called in place.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from webdnn_conformance.bundle import Bundle, convert_case
from webdnn_conformance.case import Case
from webdnn_conformance.details import DetailWriter
from webdnn_conformance.expectations import Expectations, load_expectations
from webdnn_conformance.judge import ask_reference, judge
from webdnn_conformance.result import CaseResult, Outcome, expect
from webdnn_onnx.convert import runtime_files
from webdnn_onnx.engines import Engine, RunValue, open_engine
from webdnn_onnx.engines.browser import find_chromium
from webdnn_onnx.engines.node import find_node
from webdnn_onnx.engines.tensors import decode, encode
from webdnn_onnx.errors import BackendError

__all__ = ["Options", "Worker", "check_engine"]

_NETWORK = 5
WEB = Path(__file__).with_name("web")


@dataclass(frozen=True)
class Options:
    """What every worker needs to know. timeout: seconds for one case in the engine. details: folder for the report."""

    backends: tuple[str, ...]
    engine: str = "chromium"
    gpu: str = "auto"
    endpoint: str = ""
    strict: bool = False
    timeout: float = 60.0
    details: Path | None = None
    expectations: Path | None = None


class Worker:
    """One engine and what it needs. A crash of the engine is put to the case and backend that ran."""

    def __init__(self, options: Options, number: int = 0) -> None:
        self.options = options
        self.expectations: Mapping[str, Expectations] = {
            name: load_expectations(name, options.engine, options.expectations) for name in options.backends
        }
        self._details = DetailWriter(options.details, number) if options.details else None
        self._opened: Engine | None = None
        self._runtime = ""
        self._module = ""
        self._version = ""

    @property
    def engine(self) -> Engine:
        """The engine, started when it is first needed."""
        if self._opened is None:
            self._opened = _open(self.options)
            root = Path(str(_runtime_folder()))
            self._runtime = f"{self._opened.publish(root)}webdnn.js"
            self._module = f"{self._opened.publish(WEB)}case.js"
            self._version = str(getattr(self._opened, "version", self._opened.name))
        return self._opened

    def run(self, case: Case) -> CaseResult:
        """What becomes of a case on every backend."""
        skipped = {name: entry for name in self.options.backends if (entry := self._skip(name, case.id))}
        wanted = [name for name in self.options.backends if name not in skipped]
        outcomes = {name: Outcome(name, "skip", entry) for name, entry in skipped.items()}
        bundle = Bundle({}, {}, 0.0)
        outputs: dict[str, Any] = {}
        reference = ask_reference(case)
        if wanted:
            bundle = convert_case(case.model, wanted, case.id.rpartition("/")[2])
            outcomes |= {name: Outcome(name, one.status, one.message) for name, one in bundle.refused.items()}
            ready = [name for name in wanted if name not in bundle.refused]
            if ready:
                ran, outputs = self._engine_outcomes(case, bundle, ready)
                outcomes |= ran
        for name, sets in outputs.items():
            finding = judge(case, reference, sets)
            status = "fail" if finding.message else "pass"
            before = replace(outcomes[name], ulp=finding.ulp, error=finding.error)
            if status == "pass" and self.options.strict and before.placed:
                kernel, reason = before.placed[0]
                outcomes[name] = replace(before, status="placed", message=f"{kernel}: {reason}")
            else:
                outcomes[name] = replace(before, status=status, message=finding.message or before.message)
        final = tuple(expect(outcomes[name], self.expectations[name], case.id) for name in self.options.backends)
        detail = ""
        if self._details is not None:
            detail = self._details.write(case, final, bundle, reference, outputs)
        return CaseResult(case.id, case.facts, final, bundle.ms, detail, self._version)

    def close(self) -> None:
        """Stop the engine and finish the details."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None
        if self._details is not None:
            self._details.close()

    def _skip(self, backend: str, case_id: str) -> str:
        entry = self.expectations[backend].find(case_id)
        return entry.reason if entry is not None and entry.status == "skip" else ""

    def _engine_outcomes(
        self, case: Case, bundle: Bundle, backends: Sequence[str]
    ) -> tuple[dict[str, Outcome], dict[str, list[dict[str, RunValue]]]]:
        """Run on all backends in one exchange; if that does not come back, on each alone, to know which one it was."""
        try:
            header, values = self._exchange(case, bundle, backends)
        except BackendError as error:
            if len(backends) == 1:
                name, text = backends[0], str(error)
                status = "timeout" if "expected an answer within" in text else "crash"
                return {name: Outcome(name, status, text)}, {}
            outcomes: dict[str, Outcome] = {}
            outputs: dict[str, list[dict[str, RunValue]]] = {}
            for name in backends:
                ran, made = self._engine_outcomes(case, bundle, [name])
                outcomes |= ran
                outputs |= made
            if len(outputs) == len(backends):  # nothing to blame it on
                again = f"ran only at the second attempt, the first ended with: {error}"
                outcomes = {name: replace(outcome, message=again) for name, outcome in outcomes.items()}
            return outcomes, outputs
        order = [port["name"] for port in bundle.manifest["outputs"]]
        outcomes, outputs = {}, {}
        for name in backends:
            facts = header["results"][name]
            count, placed = bundle.steps(name)
            outcomes[name] = Outcome(
                name,
                "pass",
                steps=count,
                placed=tuple(placed),
                adapter=str(facts["adapter"]),
                load_ms=float(facts["loadMs"]),
                run_ms=sum(facts["runMs"]),
            )
            if facts.get("error"):
                message = f"{facts['error']['name']}: {facts['error']['message']}"
                outcomes[name] = replace(outcomes[name], status="error", message=message)
            else:
                outputs[name] = [
                    {output: values[f"{name}/{number}/{output}"] for output in order}
                    for number in range(len(case.sets))
                ]
        return outcomes, outputs

    def _exchange(
        self, case: Case, bundle: Bundle, backends: Sequence[str]
    ) -> tuple[dict[str, Any], dict[str, RunValue]]:
        engine = self.engine
        values: dict[str, RunValue] = {
            f"file/{name}": np.frombuffer(content, np.uint8) for name, content in bundle.files.items()
        }
        for number, data in enumerate(case.sets):
            ports = {port["name"] for port in bundle.manifest["inputs"]}
            values |= {f"{number}/in/{name}": value for name, value in data.inputs.items() if name in ports}
        header = {"module": self._module, "runtime": self._runtime, "backends": list(backends), "sets": len(case.sets)}
        # Whole networks on a GPU that is emulated take minutes.
        timeout = self.options.timeout * (1 if case.facts.single else _NETWORK)
        return decode(engine.exchange(encode(header, values), timeout=timeout))


def check_engine(engine: str, endpoint: str = "") -> None:
    """Whether there is an engine to run cases in. Raises BackendError, once, where each case would have failed."""
    runtime_files()
    if endpoint:
        _open(Options((), endpoint=endpoint)).close()
    elif engine == "node":
        find_node()
    else:
        find_chromium()


def _open(options: Options) -> Engine:
    if options.endpoint:
        from webdnn_conformance.remote import RemoteEngine

        return RemoteEngine(options.endpoint)
    if options.engine == "node":
        return open_engine("node", modules=Path.cwd())
    return open_engine("chromium", gpu=options.gpu)


def _runtime_folder() -> Path:
    from importlib import resources

    runtime_files()  # says what to do where the runtime is not built
    with contextlib.ExitStack() as stack:
        return stack.enter_context(resources.as_file(resources.files("webdnn_onnx") / "_runtime"))
