"""Latents over gRPC from TensorFlow Serving, without TensorFlow."""

from ae_search.client.access import Access
from ae_search.client.async_latent_client import AsyncLatentClient
from ae_search.client.latent_client import LatentClient
from ae_search.client.versions import VersionState

__all__ = ["Access", "AsyncLatentClient", "LatentClient", "VersionState"]
