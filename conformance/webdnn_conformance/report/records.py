"""A run as data: the JSON that docs/conformance.md describes, which the page is made from too."""

from __future__ import annotations

import datetime
import json
import math
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any

import onnx

from webdnn_conformance.result import CaseResult, Outcome, Run

__all__ = ["FORMAT", "run_record", "write_json"]

FORMAT = 1


def run_record(run: Run) -> dict[str, Any]:
    """The whole run as JSON-like values."""
    adapters = sorted({outcome.adapter for one in run.results for outcome in one.outcomes if outcome.adapter})
    return {
        "format": FORMAT,
        "generator": f"webdnn-onnx {metadata.version('webdnn-onnx')}",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "onnx": onnx.__version__,
        "engine": run.engine,
        "engineVersion": run.engine_version,
        "adapters": adapters,
        "backends": list(run.backends),
        "seconds": round(run.seconds, 1),
        "stopped": run.stopped,
        "passed": not run.failed,
        "problems": list(run.problems),
        "totals": {name: dict(_counts(run, name)) for name in run.backends},
        "cases": [case_record(result) for result in run.results],
    }


def write_json(run: Run, path: Path) -> None:
    """Write a run's record to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(run_record(run), indent=1) + "\n")


def case_record(result: CaseResult) -> dict[str, Any]:
    """One case with its results on every backend."""
    facts = result.facts
    return {
        "id": result.id,
        "op": facts.op,
        "domain": facts.domain,
        "version": facts.version,
        "opset": facts.opset,
        "dtypes": list(facts.dtypes),
        "numeric": facts.numeric,
        "convertMs": round(result.convert_ms, 1),
        "results": {outcome.backend: _outcome(outcome) for outcome in result.outcomes},
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    record: dict[str, Any] = {"status": outcome.status}
    if outcome.message:
        record["message"] = outcome.message
    if outcome.status not in ("skip", "unimplemented"):
        record |= {
            "ulp": _finite(outcome.ulp),
            "error": _finite(outcome.error),
            "steps": outcome.steps,
            "placed": [list(one) for one in outcome.placed],
            "loadMs": round(outcome.load_ms, 2),
            "runMs": round(outcome.run_ms, 2),
        }
    return record


def _finite(value: float) -> float | None:
    """JSON has no infinity: null stands for one."""
    return float(f"{value:.4g}") if math.isfinite(value) else None


def _counts(run: Run, backend: str) -> Counter[str]:
    return Counter(outcome.status for one in run.results for outcome in one.outcomes if outcome.backend == backend)
