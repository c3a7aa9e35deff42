"""The ONNX graph: representation, operators, passes. No OpenCL, no torch."""
