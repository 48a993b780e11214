# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A server of the open inference protocol (V2, gRPC), in this process or as one, for tests."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from queue import Queue

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from stl_conveyor.cli.export import export_repository
from stl_conveyor.codec.decoder import EDGE_INPUTS, edge_engine
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.models.open_inference import served_name

HANG, GO_ON = 'hang', 'go on'  # what a process is told, and says once it does so
ASKED = 'asked'  # what it says when it holds back what it was asked for


class InferenceServer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Computes one network, on a port of its own; `hangs` holds back what is asked."""

    def __init__(self, name, engine, axes, port=0):
        """Serve.

        Args:
            name: Of the network.
            engine: What computes it.
            axes: Input → the number of its axes.
            port: 0: one that is free.
        """
        self._name, self._engine, self._axes = name, engine, axes
        self.inferences = 0
        self.metadata = None  # input → the number of axes that it tells
        self.hangs = threading.Event()
        self.on_hanging = lambda: None
        self.shapes = {}
        self._let_go = threading.Event()
        self._port = port
        self.start()

    @property
    def url(self):
        return f'127.0.0.1:{self._port}'

    def start(self):
        """Listen, again on the same port if it was stopped."""
        self._server = grpc.server(ThreadPoolExecutor(4))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self._port = self._server.add_insecure_port(f'127.0.0.1:{self._port}')
        self._server.start()

    def stop(self):
        self._let_go.set()
        self._server.stop(0).wait(10)

    def ModelReady(self, request, context):  # noqa: N802
        return service_pb2.ModelReadyResponse(ready=request.name == self._name)

    def ModelMetadata(self, request, context):  # noqa: N802
        if self.metadata is None:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, 'no metadata')
        response = service_pb2.ModelMetadataResponse(name=self._name)
        for name, axes in self.metadata.items():
            response.inputs.add(name=name, datatype='FP32').shape.extend([-1] * axes)
        return response

    def ModelInfer(self, request, context):  # noqa: N802
        if request.model_name != self._name:
            context.abort(grpc.StatusCode.NOT_FOUND, f'no model {request.model_name}')
        if self.hangs.is_set():
            self.on_hanging()
            self._let_go.wait(60)
        feeds = {}
        for given, raw in zip(request.inputs, request.raw_input_contents):
            assert given.datatype == 'FP32'
            self.shapes[given.name] = tuple(given.shape)
            array = np.frombuffer(raw, np.float32).reshape(given.shape)
            wanted = self._axes[given.name]
            feeds[given.name] = array[:, 0] if array.ndim > wanted == 1 else array
        names = [output.name for output in request.outputs]
        response = service_pb2.ModelInferResponse(model_name=self._name)
        for name, array in zip(names, self._engine.run(names, feeds)):
            output = response.outputs.add(name=name, datatype='FP32')
            output.shape.extend(array.shape)
            response.raw_output_contents.append(np.ascontiguousarray(array).tobytes())
        self.inferences += 1
        return response


class ServerProcess:
    """A process that serves the edge network of a model folder; it dies as a machine does."""

    def __init__(self, models):
        self._models = models
        self._port = 0
        self.start()

    @property
    def url(self):
        return f'127.0.0.1:{self._port}'

    def start(self):
        """Serve, again on the same port if it was killed."""
        self.said = Queue()
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(self._models), str(self._port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._port = int(self._process.stdout.readline())
        threading.Thread(
            target=self._listen, args=(self._process.stdout, self.said), daemon=True
        ).start()

    def _listen(self, output, said):
        with output:
            for line in output:
                said.put(line.strip())

    def tell(self, words):
        """Say HANG or GO_ON, and wait until it does so."""
        print(words, file=self._process.stdin, flush=True)
        assert self.said.get(timeout=30) == words

    def kill(self):
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()


class MlServer:
    """An MLServer (what MLSERVER names) that serves the edge network of a model folder."""

    def __init__(self, models, folder, number=0):
        """Start it.

        Args:
            folder: For its model repository and its log; it is made.
            number: Of those that run at the same time.
        """
        folder.mkdir(parents=True)
        self.model = export_repository(models, folder / 'repository', 'mlserver')
        self.log = folder / 'log'
        port = 18_080 + 3 * number
        self.url = f'127.0.0.1:{port + 1}'
        environment = {
            **os.environ,
            'MLSERVER_HTTP_PORT': str(port),
            'MLSERVER_GRPC_PORT': str(port + 1),
            'MLSERVER_METRICS_PORT': str(port + 2),
        }
        environment.pop('PYTHONPATH', None)
        with self.log.open('wb') as log:
            self.process = subprocess.Popen(
                [os.environ['MLSERVER'], 'start', str(folder / 'repository')],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def kill(self):
        self.process.kill()
        self.process.wait()


def main():
    """Serve until nobody speaks any more, and say what is asked while it hangs."""
    models, port = sys.argv[1:]
    folder = ModelFolder(models)
    server = InferenceServer(
        served_name(folder.model_id('edge')), edge_engine(folder), EDGE_INPUTS, int(port)
    )
    server.on_hanging = lambda: print(ASKED, flush=True)
    print(server.url.rpartition(':')[2], flush=True)
    for line in sys.stdin:
        if line.strip() == HANG:
            server.hangs.set()
        else:
            server.hangs.clear()
        print(line.strip(), flush=True)
    server.stop()


if __name__ == '__main__':
    main()
