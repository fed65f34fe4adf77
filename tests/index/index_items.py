"""Items to put into an index, and the card of the model that their latents are said to come from."""

import numpy as np

from ae_search.contract import ModelCard

DIM = 8
CARD = ModelCard(name="tiny", version=1, fingerprint="ab" * 32, image_shape=(28, 28, 1), latent_dim=DIM)


def clustered(count=600, dim=DIM, seed=7):
    """Return latents `[count, dim]` around five centres."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(5, dim))
    return (centres[rng.integers(5, size=count)] + 0.3 * rng.normal(size=(count, dim))).astype(np.float32)


def small_block():
    """Return 60 items some of which have all that an item can have."""
    return {
        "latents": clustered(60, seed=11),
        "keys": [f"key-{i}" if i % 7 else f"schlüssel/猫 {i}" for i in range(60)],
        "labels": [None if i % 6 == 0 else f"label-{i % 5}" for i in range(60)],
        "metadata": [None if i % 4 == 0 else {"n": i, "nested": {"ü": [1, None]}} for i in range(60)],
        "thumbnails": [None if i % 3 else b"\xff\xd8 %d" % i for i in range(60)],
        "digests": [None if i % 5 == 0 else f"sha256:{i:064x}" for i in range(60)],
    }
