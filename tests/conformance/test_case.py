"""Cases: ids, facts, packs."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.conformance.models import ADD, EVERY, pack_of
from webdnn_conformance.case import selects
from webdnn_conformance.store import decode_case, encode_case, write_pack
from webdnn_conformance.suites import SUITES, load_suite
from webdnn_conformance.suites.contrib import cases as contrib_cases
from webdnn_onnx.errors import InvalidModelError


def test_an_id_names_suite_kind_operator_version_dtype_and_case() -> None:
    assert EVERY[ADD].id == "tests/node/add/14/f32/add"
    assert EVERY[ADD].suite == "tests"


@pytest.mark.parametrize(
    ("pattern", "selected"), [("tests/node/add", True), ("ADD/14", True), ("f32", True), ("mul", False)]
)
def test_filters_are_prefixes_or_parts_in_any_case(pattern: str, selected: bool) -> None:
    assert selects([pattern], ADD) is selected


def test_a_case_survives_its_record() -> None:
    for one in EVERY.values():
        back = decode_case(encode_case(one))
        assert (back.id, back.facts, back.model) == (one.id, one.facts, one.model)
        for ours, theirs in zip(back.sets, one.sets, strict=True):
            np.testing.assert_equal(dict(ours.inputs), dict(theirs.inputs))
            np.testing.assert_equal(ours.expected, theirs.expected)


def test_a_pack_gives_facts_and_cases_by_id(tmp_path: Path) -> None:
    pack = pack_of(tmp_path)
    assert list(pack) == list(EVERY)
    assert ADD in pack
    assert pack.facts(ADD) == EVERY[ADD].facts
    assert pack.case(ADD).model == EVERY[ADD].model


def test_two_cases_of_one_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected one case of that id, got two"):
        write_pack(tmp_path / "x.pack", [EVERY[ADD], dataclasses.replace(EVERY[ADD])])
    assert not list(tmp_path.iterdir())


def test_an_unknown_suite_is_an_error_of_the_user() -> None:
    with pytest.raises(InvalidModelError, match=", ".join(SUITES)):
        load_suite("onxx")


@pytest.mark.skipif(onnx.__version__ != "1.23.2", reason="the ids pinned here are those of onnx 1.23.2")
def test_ids_of_the_node_suite_are_unique_and_do_not_change() -> None:
    (pack, *others) = load_suite("onnx")
    ids = sorted(pack)
    assert len(ids) == 1884
    assert [len(other) for other in others] == [23, 35, 82, 9]
    assert len({case_id for one in (pack, *others) for case_id in one}) == 2033
    digest = hashlib.sha256("\n".join(ids).encode()).hexdigest()
    assert digest == NODE_IDS, "ids are used in reports, links and expectation files: they are never changed"


NODE_IDS = "3fc0b161178d8314f74d97d49d243c3e3d88b495b616e53dfb10ea4e3c292b3e"


def test_contrib_cases_are_the_same_every_time() -> None:
    first, second = ([encode_case(one) for one in contrib_cases()] for _ in range(2))
    assert first == second
    assert len({decode_case(record).id for record in first}) == len(first) > 150
