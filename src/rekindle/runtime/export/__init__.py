"""TorchScript and torch.export archives: open them safely, learn their shapes, export to ONNX.

    file → archive.load → Archive (module, input names, sample inputs)
         → probe.specify → input and output specs
         → onnx.to_onnx → ONNX file (cached), checked against torch

The only place in `runtime`, beside the torchscript provider, that imports torch.
"""
