"""The node cases of earlier releases of the onnx package on the reference."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.reference.historical import HistoricalCase, cases, exceptions, wheels
from webdnn_onnx.errors import WebDNNError

pytestmark = pytest.mark.slow

# A case whose files cannot be read fails with what onnx raises for them.
FAILURES = (AssertionError, WebDNNError, UnicodeDecodeError)


@pytest.fixture(scope="module")
def stored() -> Mapping[str, HistoricalCase]:
    try:
        return cases()
    except FileNotFoundError as error:
        pytest.skip(f"earlier releases are neither cached nor to be had: {error}")


@pytest.mark.parametrize("release", [wheel.version for wheel in wheels()])
def test_release(release: str, stored: Mapping[str, HistoricalCase]) -> None:
    excepted = exceptions()
    failed: list[str] = []
    for name, case in stored.items():
        if name.startswith(f"{release}/") and name not in excepted:
            try:
                case.check()
            except FAILURES as error:
                failed.append(f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
    assert not failed, f"{len(failed)} cases fail:\n" + "\n".join(failed)


@pytest.mark.parametrize("name", exceptions())
def test_exception_is_still_needed(name: str, stored: Mapping[str, HistoricalCase]) -> None:
    assert name in stored, f"{name}: expected a case of that name, got none; delete the entry"
    with pytest.raises(FAILURES):
        stored[name].check()
    atol = exceptions()[name].get("atol")
    if atol is not None:
        stored[name].check(atol=atol)


def test_stored_cases_cover_the_opsets_between_7_and_25(stored: Mapping[str, HistoricalCase]) -> None:
    imported = {entry.version for case in stored.values() for entry in case.model().opset_import if not entry.domain}
    assert set(range(7, 26)) <= imported
