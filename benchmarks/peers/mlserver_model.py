"""MLServer's runtime with ONNX Runtime, loaded by `mlserver start FOLDER`."""

import mlserver
import numpy as np
import onnxruntime
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput


class Model(mlserver.MLModel):
    """Input and output FP32, over REST and gRPC."""

    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            self.settings.parameters.uri, options, providers=["CPUExecutionProvider"]
        )
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        tensor = payload.inputs[0]
        x = np.asarray(tensor.data, np.float32).reshape(tensor.shape)
        y = self._session.run(["y"], {"x": x})[0]
        output = ResponseOutput(
            name="y", shape=list(y.shape), datatype="FP32", data=y.ravel().tolist()
        )
        return InferenceResponse(model_name=self.name, outputs=[output])
