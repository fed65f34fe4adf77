"""Latents over gRPC from TensorFlow Serving, without TensorFlow."""

from ae_search.client.latent_client import LatentClient, VersionStatus

__all__ = ["LatentClient", "VersionStatus"]
