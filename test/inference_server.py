# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A server of the open inference protocol (V2, gRPC) in this process, for tests."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc


class InferenceServer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Computes one network, on a port of its own; `hangs` holds back what is asked."""

    def __init__(self, name, engine, axes):
        """Serve.

        Args:
            name: Of the network.
            engine: What computes it.
            axes: Input → the number of its axes.
        """
        self._name, self._engine, self._axes = name, engine, axes
        self.inferences = 0
        self.metadata = None  # input → the number of axes that it tells
        self.hangs = threading.Event()
        self.shapes = {}
        self._let_go = threading.Event()
        self._port = 0
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
