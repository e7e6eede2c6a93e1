"""The digits page in a real browser: strokes drawn by real mouse events are recognised on every backend."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from webdnn_onnx.engines.browser import Browser, Tab
from webdnn_onnx.engines.server import Server

SOURCE = Path(__file__).resolve().parents[2] / "examples" / "digits"
BACKENDS = ("webgpu", "wasm", "js")

STROKES = {
    0: ["50,14 34,22 27,45 30,70 42,86 58,85 70,70 74,45 66,22 50,14"],
    1: ["42,30 55,14 55,40 54,65 54,87"],
    2: ["30,30 38,18 52,14 68,22 68,40 52,60 30,84 75,84"],
    3: ["30,20 50,13 68,24 64,40 46,47 66,54 70,72 52,86 28,80"],
    4: ["52,14 28,60 76,60", "62,42 60,88"],
    5: ["70,15 36,15 33,45 52,42 70,54 70,74 52,86 28,80"],
    6: ["64,14 48,22 36,42 32,66 40,84 56,86 68,74 64,60 50,56 35,64"],
    7: ["26,15 74,15 58,48 44,87", "36,50 66,50"],
    9: ["68,30 58,15 40,16 32,32 42,48 60,46 68,30 67,55 60,87"],
}
"""Strokes as a person would draw them, in hundredths of the board's sides; not the page's own examples."""

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from webdnn_onnx.convert import convert

    folder = tmp_path_factory.mktemp("digits")
    for file in SOURCE.iterdir():
        if file.suffix in {".html", ".css", ".js", ".svg"}:
            shutil.copy(file, folder)
    convert(SOURCE / "digits.onnx", folder / "model")
    return folder


@pytest.fixture(scope="module")
def page(site: Path) -> Iterator[Tab]:
    with Server({"/": site}) as server, Browser(gpu="software") as browser:
        tab = browser.tab(f"{server.url}/")
        tab.wait_for("document.body.dataset.backend", timeout=60)
        yield tab
        assert tab.errors == []
        assert [line for line in tab.console if line.startswith("error")] == []


def draw(page: Tab, digit: int) -> None:
    """Clear the board and draw, with mouse events."""
    page.click("#clear")
    page.evaluate("document.getElementById('paper').scrollIntoView({ block: 'center', behavior: 'instant' })")
    box = "document.getElementById('paper').getBoundingClientRect()"
    left, top, width, height = page.evaluate(f"(({{ x, y, width, height }}) => [x, y, width, height])({box})")
    for stroke in STROKES[digit]:
        points = [tuple(map(int, point.split(","))) for point in stroke.split()]
        page.drag(_fine([(left + x * width / 100, top + y * height / 100) for x, y in points]))


def _fine(points: list[tuple[float, float]], steps: int = 5) -> list[tuple[float, float]]:
    """The points with others between them, as a moving hand gives them."""
    fine = [points[0]]
    for (x, y), (next_x, next_y) in itertools.pairwise(points):
        fine += [(x + (next_x - x) * k / steps, y + (next_y - y) * k / steps) for k in range(1, steps + 1)]
    return fine


@pytest.mark.parametrize("backend", BACKENDS)
def test_drawn_digits_are_recognised(page: Tab, backend: str) -> None:
    page.click(f"input[value={backend}]")
    page.wait_for(
        f"document.body.dataset.backend === '{backend}' && document.querySelector('#startup').textContent !== '–'"
    )
    assert page.evaluate("document.querySelector('#status').className") == ""
    for digit in STROKES:
        draw(page, digit)
        page.wait_for(f"document.getElementById('digit').textContent === '{digit}'", timeout=10)
        assert page.evaluate(f"document.querySelectorAll('#bars li')[{digit}].classList.contains('best')")


def test_clearing_the_board_forgets_the_digit(page: Tab) -> None:
    draw(page, 3)
    page.wait_for("document.getElementById('digit').textContent === '3'")
    page.click("#clear")
    page.wait_for("document.getElementById('digit').textContent === '?'")


def test_a_number_key_draws_that_digit(page: Tab) -> None:
    page.call("Input.dispatchKeyEvent", {"type": "keyDown", "key": "2", "text": "2"})
    page.wait_for("document.getElementById('digit').textContent === '2'")


def test_every_control_has_a_name(page: Tab) -> None:
    tree = page.call("Accessibility.getFullAXTree")["nodes"]
    controls = [node for node in tree if node.get("role", {}).get("value") in {"button", "radio", "image", "list"}]
    assert len(controls) >= 8
    assert [node["role"]["value"] for node in controls if not node.get("name", {}).get("value")] == []
