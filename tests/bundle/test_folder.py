"""The output folder: whole or not at all, and never in the place of something that is not ours."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from webdnn_onnx.bundle.folder import bundle_folder
from webdnn_onnx.errors import OutputError

MANIFEST = '{"generator": "webdnn-onnx 0.1.0"}'


def write(out: Path, text: str) -> None:
    with bundle_folder(out) as folder:
        (folder / "model.json").write_text(MANIFEST)
        (folder / "content").write_text(text)


def test_a_bundle_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "bundle"
    write(out, "first")
    (out / "old").write_text("")
    write(out, "second")
    assert (out / "content").read_text() == "second"
    assert not (out / "old").exists()
    assert list(out.parent.iterdir()) == [out]


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write(tmp_path / "out", "x")
    assert (tmp_path / "out" / "content").is_file()


@pytest.mark.parametrize("manifest", ["{}", "[]", "no JSON", '{"generator": "another tool"}', None])
def test_what_is_not_ours_stays(tmp_path: Path, manifest: str | None) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    if manifest is not None:
        (tmp_path / "model.json").write_text(manifest)
    with pytest.raises(OutputError, match="choose another"):
        write(tmp_path, "x")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_full_disk_leaves_the_earlier_bundle(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, "first")

    def run_full() -> None:
        with bundle_folder(out) as folder:
            (folder / "half").write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match="No space left"):
        run_full()
    assert sorted(path.name for path in out.iterdir()) == ["content", "model.json"]
    assert list(tmp_path.iterdir()) == [out]


def test_an_interrupt_between_the_old_and_the_new_keeps_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    write(out, "first")
    rename = Path.rename

    def interrupted(source: Path, target: Path) -> Path:
        if target == out and source.name != "bundle":
            raise KeyboardInterrupt
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(out, "second")
    assert (out / "content").read_text() == "first"
    assert list(tmp_path.iterdir()) == [out]
