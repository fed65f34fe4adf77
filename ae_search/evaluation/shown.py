"""What a report shows beside the figures: queries with their neighbours, latents for a map, reconstructions."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ae_search.contract import Latents


@dataclass(frozen=True)
class Answer:
    """One neighbour of a query.

    Attributes:
        key: Key of the item.
        label: Label of the item, if it has one.
        similarity: Cosine similarity in [-1, 1].
        picture: Its thumbnail, a JPEG file, or a PNG file of its pixels; None where there is neither.
    """

    key: str
    label: str | None
    similarity: float
    picture: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class QueryResult:
    """One query and what was found for it.

    Attributes:
        key: Key of the query in its source.
        label: Label of the query.
        neighbours: Up to 10, the nearest first.
        precision_at_10: Share in [0, 1] of them that have the query's label.
        average_precision: Average precision over the first 1000, in [0, 1].
        picture: The query as the model sees it, a PNG file.
    """

    key: str
    label: str | None
    neighbours: tuple[Answer, ...]
    precision_at_10: float
    average_precision: float
    picture: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Examples:
    """Queries to show; a query is in one of the three lists at most.

    Attributes:
        hits: Some whose 10 neighbours all have their label, drawn by the seed.
        misses: Some whose first neighbour has another label, drawn by the seed.
        worst: Those with the lowest precision@10, then the lowest average precision, the worst first.
    """

    hits: tuple[QueryResult, ...] = ()
    misses: tuple[QueryResult, ...] = ()
    worst: tuple[QueryResult, ...] = ()


@dataclass(frozen=True)
class LatentSample:
    """Items of the index, drawn by the seed, for a map of the latents.

    Attributes:
        latents: float32 `[m, d]`.
        keys: m keys.
        labels: m labels, None where an item has none.
        pictures: m thumbnails (JPEG files) or PNG files, None where there is neither.
    """

    latents: Latents
    keys: tuple[str, ...]
    labels: tuple[str | None, ...]
    pictures: tuple[bytes | None, ...] = field(repr=False)


@dataclass(frozen=True)
class Reconstructions:
    """Queries and what the autoencoder makes of them.

    Attributes:
        originals: float32 `[n, h, w, c]` in [0, 1].
        reconstructions: The same shape, in [0, 1].
        labels: n labels, None where a query has none.
        mean_squared_error: Over the queries above, in squared brightness, which is in [0, 1].
    """

    originals: npt.NDArray[np.float32] = field(repr=False)
    reconstructions: npt.NDArray[np.float32] = field(repr=False)
    labels: tuple[str | None, ...]
    mean_squared_error: float
