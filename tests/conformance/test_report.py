"""What a run leaves behind: JSON, JUnit, the scoreboard's files, the page, and the page that runs the cases again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.conformance.models import ADD, CHAIN, EVERY, run
from webdnn_conformance.command import rerun_command
from webdnn_conformance.details import read_detail, read_rerun
from webdnn_conformance.report import write_html, write_json, write_junit, write_scoreboard
from webdnn_conformance.report.records import run_record
from webdnn_conformance.result import STATUSES, CaseResult, Outcome, Run
from webdnn_onnx.cli.arguments import build_parser
from webdnn_onnx.engines.tensors import decode
from webdnn_onnx.errors import OutputError

CASE_KEYS = {"id", "op", "domain", "version", "opset", "dtypes", "numeric", "convertMs", "results"}
RUN_KEYS = {"format", "generator", "date", "onnx", "engine", "engineVersion", "adapters", "backends", "seconds"}
RUN_KEYS |= {"stopped", "passed", "problems", "totals", "cases"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    """A run with details."""
    folder = tmp_path_factory.mktemp("details")
    return run(tmp_path_factory.mktemp("pack"), details=folder), folder


@pytest.fixture(scope="module")
def page(finished: tuple[Run, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The written page."""
    folder = tmp_path_factory.mktemp("report")
    write_html(*((finished[0], folder, finished[1])))
    return folder


def mixed() -> Run:
    """A run in which every status occurs."""
    facts = EVERY[ADD].facts
    results = [
        CaseResult(
            f"onnx/node/add/14/f32/{status}",
            facts,
            (Outcome("js", status, f"because {status} \x00", ulp=float("inf")),),
        )
        for status in STATUSES
    ]
    return Run(("js",), "node", results=results, problems=["something else"], seconds=1.5)


def test_json_has_the_documented_keys(finished: tuple[Run, Path], tmp_path: Path) -> None:
    write_json(finished[0], tmp_path / "run.json")
    record = json.loads((tmp_path / "run.json").read_text())
    assert set(record) == RUN_KEYS
    assert record["passed"] is True
    assert record["totals"] == {"js": {"pass": 4}, "wasm": {"pass": 4}}
    assert record["engineVersion"].startswith("Node ")
    assert [one["id"] for one in record["cases"]] == sorted(EVERY)
    for one in record["cases"]:
        assert set(one) == CASE_KEYS
        for result in one["results"].values():
            assert {"status", "ulp", "error", "steps", "placed", "loadMs", "runMs"} <= set(result)
            assert result["steps"] > 0


def test_json_is_json_whatever_happened() -> None:
    text = json.dumps(run_record(mixed()), allow_nan=False)
    assert set(json.loads(text)["totals"]["js"]) == set(STATUSES)


def test_docs_name_every_key_and_status() -> None:
    text = (Path(__file__).parents[2] / "docs/conformance.md").read_text()
    assert not [name for name in (*RUN_KEYS, *CASE_KEYS, *STATUSES) if f"`{name}`" not in text]


def test_junit_counts_what_it_lists(tmp_path: Path) -> None:
    write_junit(mixed(), tmp_path / "report.xml")
    root = ElementTree.parse(tmp_path / "report.xml").getroot()
    suite = root.find("testsuite[@name='onnx/node on js']")
    assert suite is not None
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(suite.attrib[attribute]) == len(suite.findall(f"testcase/{tag}"))
    assert int(suite.attrib["tests"]) == len(STATUSES)
    assert "something else" in ElementTree.tostring(root, encoding="unicode")


def test_scoreboard_files_name_the_package_s_tests(tmp_path: Path) -> None:
    write_scoreboard(mixed(), tmp_path)
    write_scoreboard(mixed(), tmp_path)
    report = json.loads((tmp_path / "webdnn-onnx-js/report.json").read_text())
    assert report["passed"] == ["test_pass_cpu"]
    assert report["skipped"] == ["test_skip_cpu"]
    assert len(report["failed"]) == len(STATUSES) - 2
    assert len(json.loads((tmp_path / "webdnn-onnx-js/trend.json").read_text())) == 2


def test_a_record_has_values_and_kernels(finished: tuple[Run, Path]) -> None:
    found, folder = finished
    result = next(one for one in found.results if one.id == CHAIN)
    record = json.loads(read_detail(folder, result.detail))
    assert set(record["kernels"]) == {"js", "wasm"}
    assert "(func $" in record["kernels"]["wasm"]
    assert "f32" in record["kernels"]["wasm"]
    assert record["sets"][0]["inputs"]["a"]["shape"] == [8, 8]
    assert set(record["sets"][0]["outputs"]) == {"js", "wasm"}
    assert "MatMul" in record["graph"]
    header, values = decode(read_rerun(folder, result.detail))
    assert header["id"] == CHAIN
    assert {"file/model.json", "0/in/a", "0/want/0"} <= set(values)


def test_the_rerun_command_is_one_line_for_one_case() -> None:
    given = ["--engine", "node", "--browser-endpoint", "ws://phone:9222", "--gpu", "software", "--strict"]
    arguments = build_parser().parse_args(["conformance", *given])
    line = rerun_command(ADD, Outcome("wasm", "fail"), arguments)
    assert line == (
        "webdnn conformance --backend wasm --suite tests --engine node --gpu software --browser-endpoint "
        f"ws://phone:9222 --strict --filter {ADD} --jobs 0 --kernels"
    )


def test_a_folder_with_files_of_its_own_is_no_place_for_the_page(finished: tuple[Run, Path], tmp_path: Path) -> None:
    found, details = finished
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="data"):
        write_html(found, tmp_path, details)
    assert [path.name for path in tmp_path.rglob("*")] == ["data", "thesis.txt"]


def test_the_page_takes_the_place_of_an_earlier_one_and_leaves_other_files_alone(
    finished: tuple[Run, Path], tmp_path: Path
) -> None:
    found, details = finished
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "report.json").write_text("{}")
    write_html(found, folder, details)
    (folder / "data" / "details-999.js").write_text("old")
    write_html(found, folder, details)
    assert sorted(path.name for path in folder.iterdir()) == [
        "data", "index.html", "report.css", "report.js", "report.json", "run"
    ]  # fmt: skip
    assert not (folder / "data" / "details-999.js").exists()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from webdnn_onnx.engines.browser import Browser

    with Browser() as started:
        yield started


@pytest.mark.browser
def test_the_page_opens_from_the_disk_and_shows_a_case(page: Path, browser: Any) -> None:
    tab = browser.tab(f"{(page / 'index.html').as_uri()}#/case/{CHAIN}")
    tab.wait_for("document.querySelector('pre')?.textContent.includes('function')")
    assert CHAIN in tab.evaluate("document.querySelector('h1').textContent")
    assert tab.evaluate("document.querySelectorAll('.values tr').length") == 8
    tab.evaluate("location.hash = '#/'")
    tab.wait_for("document.querySelectorAll('.matrix tbody tr').length === 4")
    assert tab.errors == []


@pytest.mark.browser
def test_thousands_of_rows_are_drawn_at_once(page: Path, browser: Any) -> None:
    tab = browser.tab((page / "index.html").as_uri())
    tab.wait_for("document.querySelector('.matrix') !== null")
    elapsed = tab.evaluate("""(() => {
        const four = state.run.cases;
        state.run.cases = Array.from({ length: 6000 }, (_, i) => ({ ...four[i % 4], id: `onnx/node/x/${i}` }));
        const start = performance.now();
        location.hash = "#/cases";
        draw();
        document.body.getBoundingClientRect();
        return performance.now() - start;
    })()""")
    assert elapsed < 1000
    tab.wait_for("document.querySelectorAll('.row').length > 10")
    assert tab.evaluate("document.querySelectorAll('.row').length") < 200


@pytest.mark.browser
def test_the_cases_run_again_in_the_visitor_s_browser(page: Path, browser: Any) -> None:
    from webdnn_onnx.engines.server import Server

    posted: list[bytes] = []
    with Server({"/": page}) as server:
        server.routes["/"] = lambda body: posted.append(body) or b""  # type: ignore[func-returns-value]  # append returns None
        tab = browser.tab(f"{server.url}/run/index.html")
        tab.wait_for("document.body.dataset.ready === 'true'")
        tab.click("#start")
        tab.wait_for("document.querySelector('#save').disabled === false")
        shown = tab.evaluate("document.querySelector('#totals tbody').innerText")
    rows = {line.split("\t")[0]: line.split("\t")[1:4] for line in shown.splitlines()}
    assert rows["js"] == rows["wasm"] == ["4", "0", "0"]
    assert not posted
    assert tab.errors == []
