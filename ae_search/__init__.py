"""Reverse image search for people who run TensorFlow.

Importing this loads no TensorFlow. Training is in `ae_search.training`, export in `ae_search.export`, the embedded
model server and the in-process encoder in `ae_search.model_server`.
"""

from ae_search.client import Access, AsyncLatentClient, LatentClient
from ae_search.index import LatentIndex
from ae_search.search import ImageSearch

__all__ = ["Access", "AsyncLatentClient", "ImageSearch", "LatentClient", "LatentIndex"]
