"""Fixtures of this folder; not a conftest, because tests of other rooms import the one above by its name."""

from pathlib import Path

import numpy as np
import pytest

from ae_search.contract import ModelCard
from ae_search.index import IndexBuilder

__all__ = ["build", "card", "latents"]

DIM = 8


@pytest.fixture
def card():
    return ModelCard(name="tiny", version=1, fingerprint="ab" * 32, image_shape=(28, 28, 1), latent_dim=DIM)


@pytest.fixture
def latents():
    rng = np.random.default_rng(7)
    centres = rng.normal(size=(5, DIM))
    return (centres[rng.integers(5, size=600)] + 0.3 * rng.normal(size=(600, DIM))).astype(np.float32)


@pytest.fixture
def build(tmp_path, card, latents):
    """Return a function that builds an index of the latents and returns its folder."""

    def build_index(name="index", rows=latents, model=card, **options) -> Path:
        options = {"n_trees": 4, **options}
        with IndexBuilder(tmp_path / name, model, **options) as builder:
            builder.add(rows, [f"key-{i}" for i in range(len(rows))], [f"label-{i % 5}" for i in range(len(rows))])
        return tmp_path / name

    return build_index
