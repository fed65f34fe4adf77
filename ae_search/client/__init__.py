"""Latents over gRPC from TensorFlow Serving, and the outputs of any other model, without TensorFlow."""

from ae_search.client.access import Access
from ae_search.client.async_latent_client import AsyncLatentClient
from ae_search.client.async_predict_client import AsyncPredictClient
from ae_search.client.latent_client import LatentClient
from ae_search.client.predict_client import PredictClient
from ae_search.client.predicting import ModelMetadata, Signature, TensorSpec
from ae_search.client.versions import VersionState

__all__ = [
    "Access",
    "AsyncLatentClient",
    "AsyncPredictClient",
    "LatentClient",
    "ModelMetadata",
    "PredictClient",
    "Signature",
    "TensorSpec",
    "VersionState",
]
