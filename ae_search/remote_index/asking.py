"""A question to an index on another machine: what is asked, checked, and how a server compares with it."""

import numpy as np

from ae_search.contract import Latents, Metric
from ae_search.nearest.comparing import Query

# Recall is measured for this many neighbours.
TUNED_K = 10


def check_counts(k: int, effort: int | None) -> None:
    """Raise a ValueError where there is nothing to do."""
    if k < 1 or (effort is not None and effort < 1):
        raise ValueError(f"Expected k and effort of at least 1. Received: k={k}, effort={effort}.")


def unit(query: Query, metric: Metric) -> Latents:
    """Return what the server compares with: by the angle, a latent of length 1, whose numbers no float32 loses."""
    if metric == "euclidean" or not query.square:
        return query.latent
    scaled: Latents = (query.wide / np.sqrt(query.square)).astype(np.float32)
    return scaled
