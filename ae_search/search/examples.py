"""Search by example: near to some items, far from others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ae_search.contract import Index, Latents, Metric, Neighbour, Where
from ae_search.errors import ConfigurationError, ModelMismatchError
from ae_search.regions import has_regions

# How often the index may move on to another model within one search.
_ATTEMPTS = 3
# Below so much of its parts' length, what is left of a sum is rounding.
_NOTHING = 1e-6


@dataclass(frozen=True)
class Examples:
    """Items of an index to be near to, and items to be far from, by their keys."""

    like: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()

    @property
    def keys(self) -> frozenset[str]:
        """All of them; a search does not answer with these."""
        return frozenset((*self.like, *self.unlike))

    def latent(self, index: Index, own: Latents | None = None) -> Latents:
        """Return the latent to search with, float32 `[1, d]`; see `combined`.

        Args:
            index: The index; of items with several latents, the first counts.
            own: Latent of the query image `[1, d]`, which is one more to be near to.

        Raises:
            ConfigurationError: The index lacks a key, or the examples cancel each other out.
            ModelMismatchError: The image's latent is of another size than those of the index.
        """
        # In one call, so that all are of one model.
        shown = index.latents([*self.like, *self.unlike])
        near, far = shown[: len(self.like)], shown[len(self.like) :]
        if own is not None:
            if own.shape[1] != shown.shape[1]:
                raise ModelMismatchError("The index has moved on to a model with latents of another size.")
            near = np.concatenate([near, own])
        return combined(near, far, index.metric)

    def without(self, found: Sequence[Neighbour], k: int) -> list[Neighbour]:
        """Return the first `k` of some neighbours that are no examples."""
        kept = [one for one in found if one.key not in self.keys][:k]
        return [one._replace(rank=rank) for rank, one in enumerate(kept, start=1)]


def combined(near: Latents, far: Latents, metric: Metric) -> Latents:
    """Return the latent that stands for examples: mean(near) + (mean(near) - mean(far)); without far ones, mean(near).

    Qdrant calls it `average_vector`. For the angular metric each latent counts by its direction alone.

    Args:
        near: Float32 `[n, d]`, n at least 1.
        far: Float32 `[m, d]`, m from 0.
        metric: Metric of the index.

    Returns:
        Float32 `[1, d]`.

    Raises:
        ConfigurationError: The examples cancel each other out, so that no direction is left.
    """
    mean = _means(near, metric)
    latent = 2.0 * mean - _means(far, metric) if len(far) else mean
    if metric == "angular" and not np.linalg.norm(latent) > _NOTHING:
        raise ConfigurationError("These examples cancel each other out; leave some of them out.")
    return np.asarray(latent[np.newaxis], np.float32)


def _means(latents: Latents, metric: Metric) -> npt.NDArray[np.float64]:
    wide = latents.astype(np.float64)
    if metric == "angular":
        lengths = np.linalg.norm(wide, axis=1, keepdims=True)
        wide /= np.where(lengths > 0, lengths, 1.0)
    mean: npt.NDArray[np.float64] = wide.mean(axis=0)
    return mean


def check_examples(like: Sequence[str], unlike: Sequence[str], *, has_image: bool, views: bool) -> Examples:
    """Return the examples of a search.

    Raises:
        TypeError: `like` or `unlike` is one text.
        ValueError: There is nothing to be near to, or `views` are asked for.
    """
    if isinstance(like, str) or isinstance(unlike, str):
        raise TypeError("like and unlike are lists of keys. Received: one text.")
    if not has_image and not like:
        raise ValueError("A search needs an image, or keys to be like. Received: neither.")
    if views and (like or unlike or not has_image):
        raise ValueError("views alter an image, and go with an image alone, without like and unlike.")
    return Examples(tuple(like), tuple(unlike))


def by_example(
    index: Index,
    examples: Examples,
    k: int,
    *,
    where: Where | None = None,
    effort: int | None = None,
    exact: bool = False,
) -> list[Neighbour]:
    """Return the `k` items that are nearest to some items of the index and far from others, without these themselves.

    No encoder is asked. See `combined` for how, and `Index.search` for the arguments.

    Raises:
        ConfigurationError: The index lacks a key, or the examples cancel each other out.
        ValueError: An argument is out of range.
    """
    if k < 1:
        raise ValueError(f"Expected k of at least 1. Received: k={k}.")
    for attempt in range(_ATTEMPTS):
        # Asked first: should the index move on before the search is done, the search tells.
        fingerprint = index.model.fingerprint
        try:
            latent = examples.latent(index)
            many = k + len(examples.keys)
            # Most indexes have one latent an item, and to read what is stored about them takes longer than a search.
            several = len(index.all_latents(examples.like[:1])[0]) > 1
            (found,) = index.search(
                latent,
                many,
                where=where,
                effort=effort,
                exact=exact,
                fingerprint=fingerprint,
                first_latents=several and has_regions(index),
            )
            return examples.without(found, k)
        except ModelMismatchError:
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError
