"""Figures for Prometheus, of all processes of the service together."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ae_search.extras import needs
from ae_search.trust import Trust

LATENCY_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
ERROR_BUCKETS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
SIMILARITY_BUCKETS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999, 1.0)
# Names a folder in which the processes of a service keep their figures, so that each can tell those of all.
SHARED = "PROMETHEUS_MULTIPROC_DIR"


class Metrics:
    """The figures of a service.

    | metric | labels | what |
    |---|---|---|
    | `ae_search_web_requests_total` | `route`, `method`, `status` | requests answered |
    | `ae_search_web_request_seconds` | `route` | histogram of the time from the head of a request to its answer |
    | `ae_search_web_requests_in_flight` | | requests not yet answered |
    | `ae_search_web_refused_total` | `reason` | requests refused: busy, slow, deadline, host, site, key |
    | `ae_search_web_first_similarity` | `by` | histogram of the first neighbour's similarity; by image, key, ... |
    | `ae_search_web_reconstruction_error` | | histogram of the error of queries for which it was looked at |
    | `ae_search_web_plain_total` | | queries that are of one colour |
    | `ae_search_web_distrusted_total` | | queries that are unlike what the model was trained on |
    | `ae_search_web_items` | | items of the index |
    """

    def __init__(self, items: Callable[[], int]) -> None:
        """Make the registry.

        Args:
            items: Returns the number of items of the index.

        Raises:
            ConfigurationError: prometheus_client is not installed.
        """
        with needs("The service needs prometheus-client", "web"):
            import prometheus_client as prometheus
        self._client = prometheus
        self._registry = registry = prometheus.CollectorRegistry()
        self._requests = prometheus.Counter(
            "ae_search_web_requests", "Requests answered.", ["route", "method", "status"], registry=registry
        )
        self._seconds = prometheus.Histogram(
            "ae_search_web_request_seconds",
            "Time from the head of a request to its answer.",
            ["route"],
            registry=registry,
            buckets=LATENCY_BUCKETS_S,
        )
        self._in_flight = prometheus.Gauge(
            "ae_search_web_requests_in_flight",
            "Requests not yet answered.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._refused = prometheus.Counter("ae_search_web_refused", "Requests refused.", ["reason"], registry=registry)
        self._first = prometheus.Histogram(
            "ae_search_web_first_similarity",
            "Similarity of the first neighbour.",
            ["by"],
            registry=registry,
            buckets=SIMILARITY_BUCKETS,
        )
        self._error = prometheus.Histogram(
            "ae_search_web_reconstruction_error",
            "Mean squared error of the reconstruction of a query.",
            registry=registry,
            buckets=ERROR_BUCKETS,
        )
        self._distrusted = prometheus.Counter(
            "ae_search_web_distrusted", "Queries unlike what the model was trained on.", registry=registry
        )
        self._plain = prometheus.Counter("ae_search_web_plain", "Queries of one colour.", registry=registry)
        self._items = prometheus.Gauge(
            "ae_search_web_items", "Items of the index.", registry=registry, multiprocess_mode="livemostrecent"
        )
        self._count_items = items

    def begin(self) -> None:
        """Count a request that has begun."""
        self._in_flight.inc()

    def end(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request that has ended."""
        self._in_flight.dec()
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def refused(self, reason: str) -> None:
        """Count a request that was refused."""
        self._refused.labels(reason).inc()

    def found(self, by: str, similarity: float) -> None:
        """Count the first neighbour of a search."""
        self._first.labels(by).observe(similarity)

    def trusted(self, trust: Trust) -> None:
        """Count how usual a query is."""
        if trust.error is not None:
            self._error.observe(trust.error)
        if trust.familiar is False:
            self._distrusted.inc()

    def plain(self) -> None:
        """Count a query of one colour."""
        self._plain.inc()

    def text(self) -> tuple[bytes, Mapping[str, str]]:
        """Return the figures of all processes as Prometheus reads them, and the headers that belong to them."""
        self._items.set(self._count_items())
        registry: Any = self._registry
        if SHARED in os.environ:
            from prometheus_client.multiprocess import MultiProcessCollector

            _forget_dead()
            registry = self._client.CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return self._client.generate_latest(registry), {"content-type": self._client.CONTENT_TYPE_LATEST}


def _forget_dead() -> None:
    """Leave out what processes that are gone had under way."""
    from prometheus_client.multiprocess import mark_process_dead

    for path in Path(os.environ[SHARED]).glob("gauge_live*_*.db"):
        number = path.stem.rpartition("_")[2]
        if number.isdigit() and not Path("/proc", number).exists():
            mark_process_dead(int(number))  # type: ignore[no-untyped-call]
