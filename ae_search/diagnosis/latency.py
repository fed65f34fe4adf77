"""Where the time of a query goes."""

import time
from dataclasses import dataclass
from statistics import median

import numpy as np

from ae_search.client import LatentClient
from ae_search.client.timing import timed_encode_file
from ae_search.contract import Index, Latents, ModelCard
from ae_search.image_file import pixels_to_png

QUERIES = 50


@dataclass(frozen=True)
class Latency:
    """Medians over some queries of one image file.

    Attributes:
        request_ms: Checking the file and encoding the request.
        server_ms: The network, the server's queue and the model.
        parse_ms: Reading the answer.
        index_ms: Ten neighbours from the index; None without one.
    """

    request_ms: float
    server_ms: float
    parse_ms: float
    index_ms: float | None

    def __str__(self) -> str:
        """Return the parts in one line."""
        parts = {
            "encode request": self.request_ms,
            "network and server": self.server_ms,
            "parse answer": self.parse_ms,
            "index": self.index_ms,
        }
        return "one query: " + ", ".join(f"{name} {ms:.2f} ms" for name, ms in parts.items() if ms is not None)


def measure_latency(client: LatentClient, card: ModelCard, index: Index | None) -> Latency:
    """Send one image again and again, for as long as one request may take; return the medians of what each part takes.

    Raises:
        ServerError: The server stopped answering.
    """
    pixels = np.random.default_rng(0).integers(0, 256, card.image_shape, np.uint8)
    data = pixels_to_png(pixels)
    rows: list[tuple[float, float, float, float]] = []
    until = time.monotonic() + client.timeout_s
    while len(rows) < QUERIES and (not rows or time.monotonic() < until):
        latents, seconds = timed_encode_file(client, data)
        rows.append((*seconds, _search_s(index, latents)))
    request, server, parse, search = (median(column) * 1000 for column in zip(*rows, strict=True))
    return Latency(request, server, parse, None if index is None else search)


def _search_s(index: Index | None, latents: Latents) -> float:
    if index is None or not len(index):
        return 0.0
    began = time.perf_counter()
    index.search(latents, 10)
    return time.perf_counter() - began
