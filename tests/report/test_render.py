"""report.json and report.html."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from webdnn_onnx.convert import BackendReport, KernelReport, Report
from webdnn_onnx.report import render_report

CALL = KernelReport("conv2d_f32_n1c3", ("stem", "stem/<relu>"), "t1", "1x16x8x8", "webgpu", "", 27648, 6000)
SORT = KernelReport("sort_f32_64", ("top",), "t2", "64", "js", "no sorting network")
WEBGPU = BackendReport(
    "webgpu",
    123456,
    61440,
    2,
    (CALL, SORT),
    {"kernels.wgsl": 2048},
    ("sort_f32_64: no sorting network",),
    {"t2": "rank above 4"},
    (("stem", "relu", None), ("relu", "pool", "read by two kernels")),
)
REPORT = Report(
    name="small <net>",
    folder="/home/someone/site",
    inputs=("x: float32[1, 3, 8, 8]",),
    outputs=("y: float32[1, 10]",),
    nodes=(12, 7),
    weight_bytes=61440,
    bundle_bytes={"weights-00.bin": 61440, "webdnn.js": 57000, "model.json": 900},
    backends=(WEBGPU, replace(WEBGPU, backend="js", peak=None, placed=(), declined={}, fusions=())),
    seconds={"load": 0.25},
    explain=("folded 3 constants & 1 <shape>",),
)


class Tags(HTMLParser):
    """Checks that what is opened is closed; collects the text."""

    VOID = frozenset({"meta", "br", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.addresses += [value or "" for name, value in attributes if name in {"src", "href"}]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture
def page() -> Tags:
    parser = Tags()
    parser.feed(render_report(REPORT)["report.html"])
    parser.close()
    return parser


def test_the_page_is_well_formed_and_needs_nothing_else(page: Tags) -> None:
    assert page.open == []
    assert page.addresses == []


@pytest.mark.parametrize(
    "words",
    [
        "small <net>",
        "x: float32[1, 3, 8, 8]",
        "12 → 7",
        "120.6 KiB",
        "by input size",
        "conv2d_f32_n1c3",
        "stem, stem/<relu>",
        "js: no sorting network",
        "27.6 k",
        "5.9 KiB",
        "rank above 4",
        "read by two kernels",
        "folded 3 constants & 1 <shape>",
    ],
)
def test_the_page_says(page: Tags, words: str) -> None:
    assert words in "".join(page.text)


def test_the_json_has_what_the_page_has() -> None:
    data = json.loads(render_report(REPORT)["report.json"])
    assert data["nodes"] == {"before": 12, "after": 7}
    webgpu = data["backends"]["webgpu"]
    assert webgpu["peakBytes"] == 123456
    assert webgpu["calls"][0]["source"] == ["stem", "stem/<relu>"]
    assert webgpu["fusions"][1] == {
        "producer": "relu",
        "consumer": "pool",
        "fused": False,
        "reason": "read by two kernels",
    }


def test_no_path_and_no_clock_is_written() -> None:
    elsewhere = replace(REPORT, folder="/elsewhere", seconds={"load": 99.0})
    assert render_report(elsewhere) == render_report(REPORT)


def test_notes_are_on_the_page_only_where_there_are_some(page: Tags) -> None:
    assert "notes" not in page.text
    with_notes = render_report(replace(REPORT, notes=("output 'y': declared as <another>",)))
    assert "output &#x27;y&#x27;: declared as &lt;another&gt;" in with_notes["report.html"]
    assert json.loads(with_notes["report.json"])["notes"] == ["output 'y': declared as <another>"]
