"""Tables, numbers, options and the progress bar."""

from __future__ import annotations

import io

import pytest

from webdnn_onnx.cli.fixing import parse_dims, parse_shapes
from webdnn_onnx.cli.progress import Progress
from webdnn_onnx.cli.table import format_table
from webdnn_onnx.errors import ShapeError
from webdnn_onnx.report.units import format_bytes, format_count, format_ms


def test_columns_are_aligned() -> None:
    text = format_table(("name", "n"), [("a", 1), ("long", 100)], right=(1,))
    assert text.splitlines() == ["name    n", "a       1", "long  100"]


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (3 << 30, "3.00 GiB")]
)
def test_bytes_for_people(count: int, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(("count", "text"), [(999, "999"), (1500, "1.5 k"), (3_860_000_000, "3.86 G")])
def test_counts_for_people(count: int, text: str) -> None:
    assert format_count(count) == text


def test_times_for_people() -> None:
    assert format_ms(0.123) == "0.12 ms"
    assert format_ms(1500) == "1.50 s"


def test_shapes_and_dims_are_parsed() -> None:
    assert parse_shapes(["image=1,3,224,224", "scale="]) == {"image": (1, 3, 224, 224), "scale": ()}
    assert parse_shapes(["a=b=2"]) == {"a=b": (2,)}
    assert parse_dims(["batch=1"]) == {"batch": 1}


@pytest.mark.parametrize("option", ["image", "image=a,b", "=1,2", "image=-1,3", "image=1,,2"])
def test_a_shape_that_is_none_is_quoted(option: str) -> None:
    with pytest.raises(ShapeError, match=f"got '{option}'"):
        parse_shapes([option])


@pytest.mark.parametrize("option", ["batch", "batch=", "batch=x", "=3"])
def test_a_dim_that_is_none_is_quoted(option: str) -> None:
    with pytest.raises(ShapeError, match=f"got '{option}'"):
        parse_dims([option])


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_is_silent_where_nobody_watches() -> None:
    stream = io.StringIO()
    with Progress(stream=stream) as progress:
        progress("compiling", 0.5)
    assert stream.getvalue() == ""
    quiet = Terminal()
    Progress(quiet=True, stream=quiet)("compiling", 0.5)
    assert quiet.getvalue() == ""


def test_progress_shows_the_stage_and_removes_itself() -> None:
    stream = Terminal()
    with Progress(stream=stream) as progress:
        progress("compiling", 0.5)
        assert "compiling" in stream.getvalue()
        assert " 50%" in stream.getvalue()
    assert stream.getvalue().endswith("\r\x1b[K")
