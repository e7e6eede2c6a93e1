"""Numbers for people."""

from __future__ import annotations

__all__ = ["format_bytes", "format_count", "format_ms"]

_KILO = 1024


def format_bytes(count: float) -> str:
    """1536 -> 1.5 KiB."""
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < _KILO:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= _KILO
    return f"{size:.2f} GiB"


def format_count(count: float) -> str:
    """1536000 -> 1.54 M."""
    size = float(count)
    for unit in ("", " k", " M"):
        if size < 1000:
            return f"{size:.0f}" if not unit else f"{size:.3g}{unit}"
        size /= 1000
    return f"{size:.3g} G"


def format_ms(milliseconds: float) -> str:
    """0.12 -> 0.12 ms, 1234 -> 1.23 s."""
    return f"{milliseconds:.2f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.2f} s"
