"""Expectation files: what an entry needs, what it does, when it fails the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.models import ADD, MUL, run
from webdnn_conformance.expectations import load_expectations, parse_expectations
from webdnn_conformance.result import Run
from webdnn_onnx.errors import InvalidModelError

ENTRY = '[[entry]]\nid = "{id}"\nstatus = "{status}"\nreason = "because"\n'


def with_entry(tmp_path: Path, status: str, prefix: str) -> Run:
    (tmp_path / "js.toml").write_text(ENTRY.format(id=prefix, status=status))
    return run(tmp_path, ADD, MUL, backends=("js",), expectations=tmp_path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[[entry]]\nid = "a"\nstatus = "skip"\n', "expected reason, got none"),
        ('[[entry]]\nstatus = "skip"\nreason = "x"\n', "expected id, got none"),
        (ENTRY.format(id="a", status="flaky"), "expected skip or xfail, got 'flaky'"),
        (2 * ENTRY.format(id="a", status="skip"), "expected one entry, got two"),
        ("entry = ", "expected TOML"),
    ],
)
def test_an_incomplete_entry_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(InvalidModelError, match=complaint):
        parse_expectations("js", text)


def test_the_longest_prefix_decides() -> None:
    text = ENTRY.format(id="a/", status="skip") + ENTRY.format(id="a/b", status="xfail")
    expectations = parse_expectations("js", text)
    found = expectations.find("a/b/c")
    assert found is not None
    assert found.status == "xfail"
    assert expectations.find("b") is None


def test_an_expected_failure_that_passes_fails_the_run(tmp_path: Path) -> None:
    found = with_entry(tmp_path, "xfail", ADD)
    assert [(one.id, outcome.status) for one, outcome in found.failures()] == [(ADD, "xpass")]
    assert found.failed


def test_a_skipped_case_is_not_run(tmp_path: Path) -> None:
    found = with_entry(tmp_path, "skip", ADD)
    assert not found.failed
    assert {one.id: one.outcomes[0].status for one in found.results} == {ADD: "skip", MUL: "pass"}


def test_an_entry_that_matches_nothing_fails_the_run(tmp_path: Path) -> None:
    found = with_entry(tmp_path, "skip", "tests/node/gone/")
    assert found.failed
    assert "tests/node/gone/: expected to match a case, matches none" in found.problems[0]


def test_entries_of_suites_that_do_not_run_are_left_alone(tmp_path: Path) -> None:
    assert not with_entry(tmp_path, "skip", "historical/").failed


def test_an_expected_failure_that_fails_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from webdnn_backends.ir.scalars import Op, Scalar
    from webdnn_backends.js.operators import OPERATORS

    monkeypatch.setitem(OPERATORS[Scalar.F32], Op.ADD, OPERATORS[Scalar.F32][Op.SUB])
    found = with_entry(tmp_path, "xfail", ADD)
    assert not found.failed
    assert "because" in next(one.outcomes[0].message for one in found.results if one.id == ADD)


@pytest.mark.parametrize("backend", ["js", "wasm", "webgpu"])
def test_the_package_s_own_files_are_read(backend: str) -> None:
    assert load_expectations(backend, "chromium").backend == backend


def test_an_entry_may_hold_for_one_engine(tmp_path: Path) -> None:
    text = ENTRY.format(id="a/", status="skip") + ENTRY.format(id="b/", status="skip") + 'engine = "node"\n'
    (tmp_path / "js.toml").write_text(text)
    entries = {engine: load_expectations("js", engine, tmp_path).entries for engine in ("chromium", "node")}
    assert {engine: [entry.id for entry in found] for engine, found in entries.items()} == {
        "chromium": ["a/"],
        "node": ["a/", "b/"],
    }
    with pytest.raises(InvalidModelError, match="engine: expected chromium or node, got 'safari'"):
        parse_expectations("js", ENTRY.format(id="a/", status="skip") + 'engine = "safari"\n')


def test_a_file_whose_entries_are_no_list_is_refused() -> None:
    with pytest.raises(InvalidModelError, match=r"\[\[entry\]\]"):
        parse_expectations("js", '[entry]\nid = "a"\n')
