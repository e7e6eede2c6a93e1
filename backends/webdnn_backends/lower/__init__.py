"""Lowering: ONNX operators as tensor expressions, one module per family."""
