"""What a conversion did, as a page for people and a file for programs."""

from webdnn_onnx.report.render import render_report

__all__ = ["render_report"]
