# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Prometheus: `/metrics`, made anew at each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from stl_conveyor.errors import ConfigError, MissingDependency, install_words
from stl_conveyor.plant.output import Result
from stl_conveyor.plant.values import VALUES, Fault, Kind, PlantValue, Reading, Readings

try:
    from prometheus_client import CollectorRegistry, start_http_server
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
except ImportError as _error:
    raise MissingDependency(
        f'the output prometheus needs prometheus-client ({_error}): {install_words("plant")}'
    ) from _error


class PrometheusOutput:
    """Serves what holds at the moment at which it is asked for."""

    def __init__(
        self,
        address: str,
        port: int,
        read: Callable[[], Mapping[str, Readings]],
        certificate: Path | None = None,
        key: Path | None = None,
    ) -> None:
        """Serve from now on.

        Args:
            address: Of this machine.
            port: 0 takes a free one.
            read: Returns what holds now, by cell. Any thread may call it.
            certificate: For TLS (PEM); None: without.
            key: Of the certificate.

        Raises:
            ConfigError: If address or port cannot be had, or the certificate not be used.
        """
        self.trouble = ''
        self.left_out = 0
        self._read = read
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        try:
            self._server, self._thread = start_http_server(
                port,
                address,
                registry,
                certfile=None if certificate is None else str(certificate),
                keyfile=None if key is None else str(key),
            )
        except OSError as error:  # ssl.SSLError is one
            raise ConfigError(
                f'prometheus: /metrics cannot be served on {address}, port {port} '
                f'({error.strerror or error}): name an address of this machine, a port that '
                'nobody else has, and a certificate that can be read'
            ) from error
        self.port = int(self._server.server_port)

    @property
    def has_ended(self) -> bool:
        """Return whether nobody answers a scrape any more."""
        return not self._thread.is_alive()

    def collect(self) -> Iterable[Metric]:
        """Return everything; the library calls it at each scrape."""
        cells = self._read()
        for value in VALUES.values():
            labels = ['cell', *([value.by] if value.by else [])]
            if value.kind is Kind.TEXT:
                labels.append(value.name)
            family = (
                CounterMetricFamily(value.prometheus_name, value.text, labels=labels)
                if value.kind is Kind.COUNTER
                else GaugeMetricFamily(value.prometheus_name, value.text, labels=labels)
            )
            for cell, found in cells.items():
                for more, number in _samples(value, found[value.name]):
                    family.add_metric([cell, *more], number)
            yield family

    def update(self, cells: Mapping[str, Readings]) -> None:
        """Do nothing: what holds is read when it is asked for."""

    def faults(self, cells: Mapping[str, Sequence[Fault]]) -> None:
        """Do nothing: how many last, and the worst, are values."""

    def result(self, result: Result) -> None:
        """Do nothing: Prometheus knows no single items."""

    def stop(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5.0)


def _samples(value: PlantValue, reading: Reading) -> list[tuple[list[str], float]]:
    """Return labels and number of each sample of a value; none if nobody knows it."""
    if reading is None:
        return []
    if isinstance(reading, dict):
        return [([which], float(number)) for which, number in reading.items()]
    if value.kind is Kind.TEXT:
        return [([value.label(str(reading))], 1.0)]
    return [([], float(reading))]
