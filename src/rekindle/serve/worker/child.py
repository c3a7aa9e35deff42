"""The worker process: one model, run as it is told; `python -m rekindle.serve.worker.child`.

It ends when the server closes the connection or is gone. SIGINT and SIGTERM are left to the
server, which drains first: a Ctrl-C or a service manager signals the whole group.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from typing import Any

from rekindle.serve import heap
from rekindle.serve.worker.job import pack, unpack_job
from rekindle.serve.worker.link import encode, messages, pack_error
from rekindle.serve.worker.opening import OpenModel, open_model
from rekindle.serve.worker.shared import ALIGNMENT, Region

HEARTBEAT_S = 0.25


def main(connection_fd: int, inputs_fd: int, outputs_fd: int) -> None:
    """Answer messages until the connection ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    heap.keep_freed()
    connection = socket.socket(fileno=connection_fd)
    inputs, outputs = Region(inputs_fd), Region(outputs_fd)
    threading.Thread(target=_beat, args=(outputs.counter(), os.getppid()), daemon=True).start()
    model: OpenModel | None = None
    try:
        for message in messages(connection):
            try:
                if message["do"] == "open":
                    model = open_model(unpack_job(message["job"]))
                    answer = {"opened": pack(model.opened)}
                else:
                    assert model is not None
                    answer = _run(model, message, inputs, outputs)
            except Exception as error:  # the server answers the client with it
                answer = {"error": pack_error(error)}
            connection.sendall(encode(answer))
    except OSError:
        pass  # the server is gone
    finally:
        # Engines may take long to tidy up, or hang; the system takes everything back at once.
        os._exit(0)


def _run(model: OpenModel, message: dict[str, Any], inputs: Region, outputs: Region) -> Any:
    start = time.perf_counter()
    if message["size"] != inputs.size:
        inputs.map(message["size"])
    feeds = {place[0]: inputs.array(place) for place in message["inputs"]}
    ready = time.perf_counter()
    results = model.session.run(feeds)
    done = time.perf_counter()
    # The first line of the outputs' region is the heartbeat.
    places = outputs.write(results, start=ALIGNMENT)
    return {
        "outputs": places,
        "size": outputs.size,
        "input_s": ready - start,
        "run_s": done - ready,
        "output_s": time.perf_counter() - done,
        "nbytes": model.session.device_bytes,
    }


def _beat(counter: Any, parent: int) -> None:
    """Show that the process runs; end it when the server that started it is gone."""
    while True:
        time.sleep(HEARTBEAT_S)
        counter[0] += 1
        if os.getppid() != parent:
            os._exit(0)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
