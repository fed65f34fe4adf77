"""Why a query and an item are similar, asked of an encoder and an index."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from ae_search.contract import Index, Latents, Pictures
from ae_search.errors import ModelMismatchError
from ae_search.explaining import Explanation, Pair
from ae_search.plan import Blocking, Plan, Question
from ae_search.search.as_files import ImageInput
from ae_search.search.examples import Examples, check_examples
from ae_search.search.query import Agree, Match, encoded, while_models_move

# Ends with the latent `[d]` of a query.
LatentOf = Callable[[Match], Plan[Latents]]


def explained(agree: Agree, index: Index, query: LatentOf, key: str, *, steps: int, parts: int) -> Plan[Explanation]:
    """Decode what an explanation takes; end with it.

    Raises:
        ConfigurationError: The model has no decoder, or the index lacks the key.
        ValueError: `steps` or `parts` is out of range.
    """
    found = partial(_explained, index=index, query=query, key=key, steps=steps, parts=parts)
    return (yield from while_models_move(agree, found))


def latent_of_query(
    index: Index, image: ImageInput | None, *, like: Sequence[str] = (), unlike: Sequence[str] = ()
) -> LatentOf:
    """Return what ends with the latent that a search by an image, by examples or by both has.

    Raises:
        ValueError: There is nothing to be near to.
    """
    examples = check_examples(like, unlike, has_image=image is not None, views=False)

    def found(match: Match) -> Plan[Latents]:
        own = None if image is None else (yield from encoded(match, [image])).latents
        if own is not None and not examples.keys:
            latent: Latents = own[0]
            return latent
        shown: Latents = yield Blocking(partial(_shown, match, index, examples, own))
        return shown

    return found


def latent_itself(latent: npt.ArrayLike) -> LatentOf:
    """Return what ends with a latent that is there already; the encoder checks it."""

    def given(match: Match) -> Plan[Latents]:
        array = np.asarray(latent, np.float32)
        if array.shape != (match.card.latent_dim,):
            raise ValueError(f"Expected one latent [{match.card.latent_dim}]. Received: shape={array.shape}.")
        if not np.isfinite(array).all():
            raise ValueError("Latents must be finite. Received: NaN or infinity.")
        return array
        yield

    return given


def _explained(match: Match, index: Index, query: LatentOf, key: str, *, steps: int, parts: int) -> Plan[Explanation]:
    latent = yield from query(match)
    items: Latents = yield Blocking(partial(_latents_of, match, index, key))
    pair = Pair(latent, _nearest(latent, items), match.card.metric, steps, parts)
    images: Pictures = yield Question(partial(match.encoder.decode, pair.latents()))
    result: Explanation = yield Blocking(partial(pair.explain, key, images))
    return result


def _shown(match: Match, index: Index, examples: Examples, own: Latents | None) -> Latents:
    """Return the latent `[d]` that stands for examples, as long as those to be near to are on average.

    Where directions are compared, a search does not care for its length, but a decoder does.
    """
    latent: Latents = examples.latent(index, own)[0]
    if match.card.metric == "angular":
        near = [np.zeros((0, len(latent)), np.float32) if own is None else own]
        if examples.like:
            near.append(index.latents(examples.like))
        latent = latent * (np.linalg.norm(np.concatenate(near), axis=1).mean() / np.linalg.norm(latent))
    _check_model(match, index)
    return np.asarray(latent, np.float32)


def _latents_of(match: Match, index: Index, key: str) -> Latents:
    """Return the latents `[r, d]` of an item, unless they are those of another model by now."""
    (latents,) = index.all_latents([key])
    _check_model(match, index)
    return latents


def _check_model(match: Match, index: Index) -> None:
    if (model := index.model).fingerprint != match.model.fingerprint:
        raise ModelMismatchError(f"{index.place} holds latents of {model.name} version {model.version} by now.")


def _nearest(latent: Latents, items: Latents) -> Latents:
    """Return that of an item's latents `[r, d]` which is most similar to a query's: the one that it was found by."""
    lengths = np.linalg.norm(items, axis=1)
    nearest: Latents = items[np.argmax(items @ latent / np.where(lengths > 0, lengths, 1))]
    return nearest
