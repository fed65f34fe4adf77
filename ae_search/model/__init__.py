"""Functional-API encoder and decoder submodels, joined into the autoencoder that is trained."""

from ae_search.model.autoencoder import (
    ARCHITECTURES,
    Architecture,
    build_autoencoder,
    build_decoder,
    build_encoder,
    latent_dim_of,
)

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "build_autoencoder",
    "build_decoder",
    "build_encoder",
    "latent_dim_of",
]
