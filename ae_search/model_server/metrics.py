"""Figures for Prometheus, on a port of their own."""

import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import grpc

from ae_search.errors import ConfigurationError
from ae_search.extras import needs
from ae_search.model_server.scraping import Scraping

log = logging.getLogger(__name__)

LATENCY_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
ROWS_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class ServerMetrics:
    """The figures of one server, in a registry of its own.

    | metric | labels | what |
    |---|---|---|
    | `ae_search_requests_total` | `method`, `code` | requests answered, by gRPC status code |
    | `ae_search_request_seconds` | `method` | histogram of the time from arrival to answer |
    | `ae_search_requests_in_flight` | | requests not yet answered |
    | `ae_search_batch_rows` | | histogram of the rows of one joined run; with batching only |
    | `ae_search_version_loaded` | `version` | 1 for each version that is served |
    """

    def __init__(self, available: Callable[[], Iterable[int]]) -> None:
        """Make the registry.

        Args:
            available: Returns the served versions.

        Raises:
            ConfigurationError: prometheus_client is not installed.
        """
        with needs("Metrics need prometheus-client", "tensorflow"):
            import prometheus_client as prometheus
        registry = prometheus.CollectorRegistry()
        self._available = available
        self._requests = prometheus.Counter(
            "ae_search_requests", "Requests answered.", ["method", "code"], registry=registry
        )
        self._seconds = prometheus.Histogram(
            "ae_search_request_seconds",
            "Time from arrival to answer.",
            ["method"],
            registry=registry,
            buckets=LATENCY_BUCKETS_S,
        )
        self._in_flight = prometheus.Gauge(
            "ae_search_requests_in_flight", "Requests not yet answered.", registry=registry
        )
        self._rows = prometheus.Histogram(
            "ae_search_batch_rows", "Rows of one joined run.", registry=registry, buckets=ROWS_BUCKETS
        )
        registry.register(self)
        self._scraping = Scraping(prometheus.make_wsgi_app(registry))

    async def start(self, host: str, port: int) -> int:
        """Listen for Prometheus, in the event loop that runs.

        Returns:
            The port, the one that was picked where `port` is 0.

        Raises:
            ConfigurationError: The port cannot be listened on.
        """
        try:
            return await self._scraping.start(host, port)
        except OSError as error:
            raise ConfigurationError(
                f"Cannot listen for metrics on {host}:{port}: {error.strerror}; choose another --metrics-port."
            ) from error

    async def stop(self) -> None:
        """Close the port."""
        await self._scraping.stop()

    def in_flight(self) -> AbstractContextManager[Any]:
        """Count a request while it is under way."""
        return self._in_flight.track_inprogress()

    def observe(self, method: str, code: grpc.StatusCode, seconds: float) -> None:
        """Note an answered request."""
        self._requests.labels(method, code.name).inc()
        self._seconds.labels(method).observe(seconds)

    def observe_run(self, rows: int) -> None:
        """Note a joined run."""
        self._rows.observe(rows)

    def collect(self) -> Iterable[Any]:
        """Return the versions that are served now, as Prometheus asks for them."""
        from prometheus_client.core import GaugeMetricFamily

        family = GaugeMetricFamily("ae_search_version_loaded", "Versions that are served.", labels=["version"])
        for version in self._available():
            family.add_metric([str(version)], 1)
        return [family]
