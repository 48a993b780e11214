# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A network on a server that speaks the open inference protocol (V2) over gRPC.

Triton, OpenVINO Model Server, KServe and MLServer do. The protocol:
https://github.com/kserve/open-inference-protocol
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stl_conveyor.errors import ConfigError, MissingDependency
from stl_conveyor.models.engines import Arrays, Feeds

_URL = re.compile(r'(grpc://)?(?P<place>(\[[0-9A-Fa-f:.]+\]|[\w.-]+):\d{1,5})')

# A server that is back must be found again within a second or so, and a batch may be large.
_CHANNEL = [
    ('grpc.initial_reconnect_backoff_ms', 200),
    ('grpc.min_reconnect_backoff_ms', 200),
    ('grpc.max_reconnect_backoff_ms', 1000),
    ('grpc.max_send_message_length', -1),
    ('grpc.max_receive_message_length', -1),
]


def served_name(model_id: int) -> str:
    """Return the name under which servers have an edge network.

    It tells the file, so that a server with another version has not got the network at all.

    Args:
        model_id: First 8 bytes of the SHA-256 of its file.

    Examples:
        >>> served_name(0x4e0c8ed0c8c43a99)
        'stl_conveyor_edge_4e0c8ed0c8c43a99'
    """
    return f'stl_conveyor_edge_{model_id:016x}'


def server_address(url: str) -> str:
    """Return host and port of a URL.

    Raises:
        ConfigError: If it names none.

    Examples:
        >>> server_address('grpc://10.0.0.7:8001'), server_address('edge-2:8001')
        ('10.0.0.7:8001', 'edge-2:8001')
    """
    match = _URL.fullmatch(url.strip())
    if match is None:
        raise ConfigError(
            f'inference_urls: {url!r} is no address of a server; write host:port, such as '
            '10.0.0.7:8001'
        )
    return match['place']


class OpenInferenceServer:
    """A connection to one server, for one network."""

    def __init__(self, url: str, model: str) -> None:
        """Connect when something is asked.

        Raises:
            MissingDependency: Without tritonclient.
            ConfigError: If the URL names no server.
        """
        try:
            from tritonclient import grpc
            from tritonclient.utils import InferenceServerException
        except ImportError as error:
            raise MissingDependency(
                'inference: open_inference needs tritonclient, which is not installed: pip '
                "install 'tritonclient[grpc]'"
            ) from error
        self.name = server_address(url)
        self._model = model
        self._grpc, self._grpc_error = grpc, InferenceServerException
        self._axes: Mapping[str, int] | None = None
        self._client = grpc.InferenceServerClient(self.name, channel_args=_CHANNEL)

    def infer(self, outputs: Sequence[str], feeds: Feeds, timeout: float) -> Arrays:
        """Return the outputs; raises what the client does."""
        inputs: list[Any] = []
        axes = self._axes_there(timeout)
        for name, array in feeds.items():
            # Triton asks for an axis beside that of the batch; others take what the file says.
            flat = array.ndim == 1 and axes.get(name) != 1
            sent = array[:, None] if flat else array
            given = self._grpc.InferInput(name, list(sent.shape), 'FP32')
            given.set_data_from_numpy(np.ascontiguousarray(sent, np.float32))
            inputs.append(given)
        wanted = [self._grpc.InferRequestedOutput(name) for name in outputs]
        result = self._client.infer(
            self._model, inputs, outputs=wanted, client_timeout=max(0.001, timeout)
        )
        arrays = [result.as_numpy(name) for name in outputs]
        missing = [name for name, array in zip(outputs, arrays) if array is None]
        if missing:
            raise ConfigError(f'{self.name}: {self._model} has no output {missing[0]}')
        return arrays

    def _axes_there(self, timeout: float) -> Mapping[str, int]:
        """Return input → the number of its axes at the server; nothing if it does not tell."""
        if self._axes is None:
            try:
                told = self._client.get_model_metadata(
                    self._model, client_timeout=max(0.001, timeout)
                )
                self._axes = {each.name: len(each.shape) for each in told.inputs}
            except self._grpc_error as error:
                if 'UNIMPLEMENTED' not in str(error.status()):
                    raise
                self._axes = {}
        return self._axes

    def is_ready(self, timeout: float) -> bool:
        """Return whether the server has the network and takes requests."""
        return bool(self._client.is_model_ready(self._model, client_timeout=max(0.01, timeout)))

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()
