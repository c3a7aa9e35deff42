"""Operators of the domain `com.microsoft`, which ONNX Runtime's optimizer and quantizer write.

They are described by the document ContribOperators.md of ONNX Runtime; most are written here in
ONNX's own operators (`graph.ops._composite`).
"""
