"""The tests that docs/reference.md names are there."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent


def test_tests_named_in_the_documentation_exist() -> None:
    text = (HERE.parents[1] / "docs" / "reference.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", text))
    written = {
        name
        for path in HERE.glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert len(named) > 40
    assert named <= written, f"docs/reference.md names tests that are not there: {sorted(named - written)}"
