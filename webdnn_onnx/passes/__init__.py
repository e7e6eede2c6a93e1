"""Passes: functions from graph to graph that keep what it computes."""

from webdnn_onnx.passes.log import Firing, Log
from webdnn_onnx.passes.pipeline import PIPELINE, optimize

__all__ = ["PIPELINE", "Firing", "Log", "optimize"]
