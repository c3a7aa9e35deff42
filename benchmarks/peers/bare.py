"""The least that FastAPI and grpc.aio cost: a server that reads a tensor and answers its mean.

    python bare.py      prints its two ports, `HTTP GRPC`

No model, no queue, no worker, no metrics, no log, no checks: what a server adds is above this.
"""

import asyncio
import json
import socket

import fastapi
import grpc
import numpy as np
import uvicorn

from rekindle.serve.grpc import schema
from rekindle.serve.server import new_loop

SERVICE, LENGTH = "inference.GRPCInferenceService", "inference-header-content-length"
REQUEST = schema.message("inference.ModelInferRequest")
RESPONSE = schema.message("inference.ModelInferResponse")


def mean(raw: bytes) -> bytes:
    return np.frombuffer(raw, np.float32).mean(keepdims=True).tobytes()


async def over_grpc(request, context):
    made = RESPONSE(model_name=request.model_name, model_version="1")
    made.outputs.add(name="y", datatype="FP32", shape=[1])
    made.raw_output_contents.append(mean(request.raw_input_contents[0]))
    return made


async def over_http(name: str, request: fastapi.Request):
    body = await request.body()
    data = mean(body[int(request.headers[LENGTH]) :])
    output = {"name": "y", "datatype": "FP32", "shape": [1],
              "parameters": {"binary_data_size": len(data)}}  # fmt: skip
    head = json.dumps({"model_name": name, "model_version": "1", "outputs": [output]}).encode()
    return fastapi.Response(head + data, headers={LENGTH: str(len(head))})


async def main():
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    method = grpc.unary_unary_rpc_method_handler(
        over_grpc, REQUEST.FromString, RESPONSE.SerializeToString
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, {"ModelInfer": method}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    app = fastapi.FastAPI()
    app.add_api_route("/v2/models/{name}/infer", over_http, methods=["POST"])
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    print(listening.getsockname()[1], port, flush=True)
    await uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False)).serve(
        sockets=[listening]
    )


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop()) as runner:
        runner.run(main())
