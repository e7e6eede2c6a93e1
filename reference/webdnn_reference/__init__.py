"""The NumPy reference interpreter: what every ONNX operator means, version by version.

>>> Interpreter("model.onnx").run({"x": x})["y"]
"""

from webdnn_reference.interpreter import Interpreter, Observer, evaluate_node

__all__ = ["Interpreter", "Observer", "evaluate_node"]
