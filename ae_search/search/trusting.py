"""Whether to believe what is found: how usual each query is, by its neighbours and by its reconstruction."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from math import prod

import numpy as np

from ae_search.contract import Index, Neighbour, Pictures
from ae_search.plan import Blocking, Plan, Question
from ae_search.search.query import (
    Agree,
    Asked,
    Images,
    Match,
    QueryOptions,
    by_views,
    encoded,
    model_pixels,
    while_models_move,
)
from ae_search.trust import NEIGHBOUR, Trusted, Usual, reconstruction_errors, stored, tenth_distance

# What decoded images may take at once.
_DECODED_BYTES = 64 * 2**20


@dataclass(frozen=True)
class TrustOptions:
    """What to search for, and whether to look at reconstructions as well."""

    query: QueryOptions
    check_reconstruction: bool = False


def trusted(agree: Agree, index: Index, images: Images, options: TrustOptions) -> Plan[list[Trusted]]:
    """Search as `answered` does; end with what is found for each image, and whether to believe it."""
    return (yield from while_models_move(agree, partial(_searched, index=index, images=images, options=options)))


def _searched(match: Match, index: Index, images: Images, options: TrustOptions) -> Plan[list[Trusted]]:
    if not len(images):
        return []
    query = options.query
    asked = yield from encoded(match, images)
    # The tenth neighbour costs next to nothing beside the first; filters would put it farther away, and views nearer.
    deeper = replace(query, k=max(query.k, NEIGHBOUR))
    whole = replace(query, k=NEIGHBOUR, where=None) if query.views or query.where is not None else deeper
    rows: list[list[Neighbour]] = yield Blocking(partial(whole.search, index, asked.latents, match))
    distances = [tenth_distance(row) for row in rows]
    if query.views:
        scored = yield from by_views(match, index, asked, query)
        rows = [[neighbour for _, neighbour in row] for row in scored]
    elif whole is not deeper:
        rows = yield Blocking(partial(query.search, index, asked.latents, match))
    errors: Sequence[float | None] = [None] * len(rows)
    if options.check_reconstruction and match.card.decodes:
        errors = yield from _errors(match, asked)
    kept = match.usual or (yield Blocking(partial(stored, index)))  # it may have been measured since
    usual = kept or Usual(np.zeros(0, np.float32), np.zeros(0, np.float32))
    return [
        Trusted(row[: query.k], usual.of(distance, error), latent, match.model.fingerprint)
        for row, distance, error, latent in zip(rows, distances, errors, asked.latents, strict=True)
    ]


def _errors(match: Match, asked: Asked) -> Plan[list[float]]:
    pixels = model_pixels(asked.images, match.card)
    together = max(1, _DECODED_BYTES // (4 * prod(match.image_shape)))
    errors: list[float] = []
    for start in range(0, len(asked.latents), together):
        part = asked.latents[start : start + together]
        images = yield Blocking(lambda: np.stack(list(islice(pixels, together))))
        decoded: Pictures = yield Question(partial(match.encoder.decode, part))
        errors += reconstruction_errors(images, decoded).tolist()
    return errors
