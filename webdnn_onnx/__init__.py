"""webdnn-onnx: compile ONNX models for the browser."""
