"""The report page: static files that any host can serve and that also open from the disk.

index.html report.css report.js     the page
data/run.js                         the results, as a script so that it loads from file: too
data/details-000.js ...             tensors and kernels of the cases, loaded when one is opened
run/                                a page that runs the converted cases again, in the visitor's own browser
"""

from __future__ import annotations

import base64
import json
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from webdnn_conformance.details import read_detail, read_rerun
from webdnn_conformance.report.records import run_record
from webdnn_conformance.result import BAD, STATUSES, Run
from webdnn_onnx.convert import runtime_files
from webdnn_onnx.errors import OutputError

__all__ = ["refuse_foreign", "write_html"]

_ASSETS = Path(__file__).parent / "assets"
_PARTS = ("run", "report.css", "report.js", "index.html", "data")
_SHARD = 1 << 20
_RERUN_SHARD = 4 << 20


def refuse_foreign(folder: Path) -> None:
    """Raises OutputError if the folder holds files that the page would replace, and that are not an earlier page's."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"--html {folder}: expected a folder, got a file")
    taken = [name for name in _PARTS if (folder / name).exists()]
    if taken and not (folder / "data" / "run.js").is_file():
        raise OutputError(
            f"--html {folder}: expected a new folder or an earlier report, got one with a {taken[0]}; choose another"
        )


def write_html(run: Run, folder: Path, details: Path) -> None:
    """Write the page into a folder, in the place of an earlier one. details: where the workers' records lie.

    Raises OutputError if the folder holds something else.
    """
    refuse_foreign(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".report-", dir=folder) as temporary:
        _write(run, Path(temporary), details)
        for name in _PARTS:
            place = folder / name
            if place.is_dir():
                shutil.rmtree(place)
            (Path(temporary) / name).replace(place)


def _write(run: Run, folder: Path, details: Path) -> None:
    (folder / "data").mkdir()
    record = run_record(run)
    places: dict[str, Any] = {}
    for number, (members, content) in enumerate(_shards(run, details)):
        places |= {case_id: [number, index] for index, case_id in enumerate(members)}
        packed = base64.b64encode(zlib.compress(content, 9)).decode()
        (folder / "data" / f"details-{number:03}.js").write_text(f'details({number}, "{packed}");\n')
    rerun = _write_rerun(run, folder / "run", details)
    for case in record["cases"]:
        case["detail"] = places.get(case["id"])
    text = json.dumps(
        {**record, "statuses": STATUSES, "bad": sorted(BAD), "rerun": sorted(rerun)}, separators=(",", ":")
    )
    (folder / "data" / "run.js").write_text(f"report({text});\n")
    for name in ("index.html", "report.css", "report.js"):
        shutil.copyfile(_ASSETS / name, folder / name)


def _shards(run: Run, details: Path) -> Iterator[tuple[list[str], bytes]]:
    """Records in the order of the results, grouped so that a group is about as large as one request should be."""
    members: list[str] = []
    records: list[bytes] = []
    for result in run.results:
        if not result.detail:
            continue
        members.append(result.id)
        records.append(read_detail(details, result.detail))
        if sum(map(len, records)) >= _SHARD:
            yield members, b"[" + b",".join(records) + b"]"
            members, records = [], []
    if members:
        yield members, b"[" + b",".join(records) + b"]"


def _write_rerun(run: Run, folder: Path, details: Path) -> list[str]:
    """The page that runs cases again; returns the ids of the cases that it has."""
    folder.mkdir(parents=True)
    shard = bytearray()
    index: list[dict[str, Any]] = []
    number = 0

    def flush() -> None:
        nonlocal number
        (folder / f"cases-{number:03}.bin").write_bytes(zlib.compress(bytes(shard), 6))
        shard.clear()
        number += 1

    for result in run.results:
        message = read_rerun(details, result.detail) if result.detail else b""
        if not message:
            continue
        index.append({"id": result.id, "shard": number, "at": len(shard), "bytes": len(message)})
        shard += message + b"\0" * (-len(message) % 8)
        if len(shard) >= _RERUN_SHARD:
            flush()
    if shard:
        flush()
    (folder / "cases.json").write_text(json.dumps({"cases": index, "shards": number}))
    for name, content in runtime_files().items():
        if name in ("webdnn.js", "webdnn.worker.js"):
            (folder / name).write_bytes(content)
    web = Path(__file__).parents[1] / "web"
    shutil.copyfile(web / "case.js", folder / "case.js")
    shutil.copyfile(_session(), folder / "session.js")
    for name in ("run.html", "run.css", "run.js", "compare.js"):
        if (_ASSETS / name).is_file():
            shutil.copyfile(_ASSETS / name, folder / ("index.html" if name == "run.html" else name))
    return [entry["id"] for entry in index]


def _session() -> Path:
    """The module that reads messages of tensors."""
    import webdnn_onnx.engines

    return Path(webdnn_onnx.engines.__file__).parent / "session.js"
