"""Reverse image search for people who run TensorFlow.

Importing this loads no TensorFlow, and its classes only when they are used. Training is in `ae_search.training`, export
in `ae_search.export`, the embedded model server and the in-process encoder in `ae_search.model_server`.
"""

import importlib
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ae_search.client import Access, AsyncLatentClient, AsyncPredictClient, LatentClient, PredictClient
    from ae_search.index import LatentIndex
    from ae_search.search import AsyncImageSearch, ImageSearch

__all__ = [
    "Access",
    "AsyncImageSearch",
    "AsyncLatentClient",
    "AsyncPredictClient",
    "ImageSearch",
    "LatentClient",
    "LatentIndex",
    "PredictClient",
]

_HOMES = {
    "Access": "ae_search.client",
    "AsyncImageSearch": "ae_search.search",
    "AsyncLatentClient": "ae_search.client",
    "AsyncPredictClient": "ae_search.client",
    "ImageSearch": "ae_search.search",
    "LatentClient": "ae_search.client",
    "LatentIndex": "ae_search.index",
    "PredictClient": "ae_search.client",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return metadata.version("ae-search")
    # Late, so that the command line can choose what gRPC logs: gRPC reads that when it is imported.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES, "__version__"]
