"""The output folder: written beside its place and renamed into it, so that nothing half-written is ever there."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from webdnn_onnx.errors import OutputError

__all__ = ["bundle_folder", "is_bundle"]


def is_bundle(folder: Path) -> bool:
    """Whether a folder is empty or was written by us."""
    if not any(folder.iterdir()):
        return True
    try:
        data = json.loads((folder / "model.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(data, dict) and str(data.get("generator", "")).startswith("webdnn-onnx")


@contextmanager
def bundle_folder(out: Path) -> Iterator[Path]:
    """A temporary folder that becomes `out` when the block ends well, and disappears when it does not.

    Raises OutputError if `out` exists and is neither empty nor a bundle, or if it cannot be written.
    """
    out = Path(out).resolve()
    if out.exists() and (not out.is_dir() or not is_bundle(out)):
        raise OutputError(f"{out}: expected a new, empty or earlier bundle folder, got something else; choose another")
    temporary: Path | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        yield temporary
        temporary.chmod(0o755)
        _replace(temporary, out)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _replace(new: Path, out: Path) -> None:
    if not out.exists():
        new.rename(out)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}.old.", dir=out.parent))
    out.rename(old / "bundle")
    try:
        new.rename(out)
    except BaseException:  # an interrupt too
        (old / "bundle").rename(out)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
