"""The node cases that earlier releases of the onnx package carried as files, run on the reference."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import onnx
from onnx import ModelProto

from tests.reference.onnx_suite import check_model
from webdnn_conformance.suites.historical import StoredCase, exceptions, stored_cases, wheels
from webdnn_conformance.suites.values import data_sets

__all__ = ["HistoricalCase", "cases", "exceptions", "wheels"]


@dataclass(frozen=True)
class HistoricalCase:
    """One case; `name` is the release and the case, as in exceptions: `1.6.0/test_abs`."""

    stored: StoredCase

    @property
    def name(self) -> str:
        return self.stored.name

    def check(self, atol: float = 1e-7) -> None:
        """Run it. Raises AssertionError where an output differs."""
        model = self.model()
        sets = data_sets(self.stored.files, model)
        assert sets, f"{self.name}: expected at least one data set, got none"
        check_model(model, sets, rtol=1e-3, atol=atol, drawn="bernoulli" in self.name)

    def model(self) -> ModelProto:
        return onnx.load_from_string(self.stored.files["model.onnx"])


@functools.cache
def cases() -> Mapping[str, HistoricalCase]:
    """All cases by name. Raises FileNotFoundError where a release is neither cached nor to be had."""
    return {name: HistoricalCase(case) for name, case in stored_cases().items()}
