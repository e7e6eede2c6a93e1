"""docs/operators.md: generated, and current."""

from __future__ import annotations

from pathlib import Path

import pytest

from webdnn_conformance.operators import main, page, summarize

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_page_is_current() -> None:
    assert main([str(DOCS / "operators.md"), "--check"]) == 0, (
        "run python -m webdnn_conformance.operators docs/operators.md"
    )


def test_a_page_that_is_not_current_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "operators.md").write_text("# Operators\n")
    assert main([str(tmp_path / "operators.md"), "--check"]) == 1
    assert "webdnn_conformance.operators" in capsys.readouterr().err


def test_counts_come_from_reports() -> None:
    def case(name: str, status: str, placed: list[list[str]]) -> dict[str, object]:
        return {"id": name, "op": "Add", "domain": "", "results": {"js": {"status": status, "placed": placed}}}

    old = {"cases": [case("a", "fail", []), case("b", "pass", [["kernel", "reason"]]), case("c", "fail", [])]}
    counts = summarize([old, {"cases": [case("a", "pass", [])]}])
    assert counts == {"Add": {"js": [2, 1, 3]}}
    text = page(counts)
    assert "| Add | 1, 6, 7, 13, 14 | 2/3 (1 off) | yes | yes |" in text
    assert "| operator | versions | js | wasm | webgpu | computes |" in text
