"""LitServe with ONNX Runtime: `python litserve_app.py MODEL PORT MAX_BATCH WINDOW_S`."""

import sys

import litserve
import numpy as np
import onnxruntime


class Model(litserve.LitAPI):
    """JSON in and out: {"x": [...]} → {"y": [...]}."""

    def setup(self, device):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            sys.argv[1], options, providers=["CPUExecutionProvider"]
        )

    def decode_request(self, request):
        return np.asarray(request["x"], np.float32)

    def batch(self, inputs):
        return np.stack(inputs)

    def predict(self, x):
        return self.session.run(["y"], {"x": x if x.ndim == 2 else x[None]})[0]

    def unbatch(self, output):
        return list(output)

    def encode_response(self, output):
        return {"y": np.ravel(output).tolist()}


if __name__ == "__main__":
    api = Model(max_batch_size=int(sys.argv[3]), batch_timeout=float(sys.argv[4]))
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False,
               log_level="warning")  # fmt: skip
