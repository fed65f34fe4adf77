"""The map: latents in two dimensions, once as marks by label and once as pictures."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ae_search.evaluation.report.charts import svg, text
from ae_search.evaluation.report.markup import Attributes, Markup, element, key_text, label_text, shortened
from ae_search.evaluation.report.pictures import Album
from ae_search.evaluation.shown import LatentSample
from ae_search.principal import fit_components

MAX_POINTS = 1000
MAX_PICTURES = 300

# Labels with a mark of their own; the rest shares one.
MARKED_LABELS = 10

_SIDE, _MARGIN, _CELL = 640, 32, 26
_FEWEST_FOR_TSNE = 10

# Drawn around 0, 0; each about as heavy as the others.
_MARKS = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "M-3.5-3.5h7v7h-7z",
    "M0-4.6L4.4 3.4H-4.4z",
    "M0-5L5 0L0 5L-5 0z",
    "M-1.4-4.6h2.8v3.2h3.2v2.8h-3.2v3.2h-2.8v-3.2h-3.2v-2.8h3.2z",
    "M0 4.6L4.4-3.4H-4.4z",
    "M-5-1.8h10v3.6h-10z",
    "M-1.8-5h3.6v10h-3.6z",
    "M0-5L1.3-1.5H5L2-.1L3.2 4.2L0 1.8L-3.2 4.2L-2-.1L-5-1.5H-1.3z",
    "M-4.6-2.6L-2.6-4.6L0-2L2.6-4.6L4.6-2.6L2 0L4.6 2.6L2.6 4.6L0 2L-2.6 4.6L-4.6 2.6L-2 0z",
)
_OTHER_MARK = "M-2 0a2 2 0 1 0 4 0a2 2 0 1 0-4 0z"


@dataclass(frozen=True)
class LatentMap:
    """Where each latent of a sample is.

    Attributes:
        method: "t-SNE" or "PCA".
        rows: Rows of the sample that are on it.
        places: float64 `[len(rows), 2]` in px, the y axis downwards.
    """

    method: str
    rows: npt.NDArray[np.int64]
    places: npt.NDArray[np.float64]


def project(sample: LatentSample, *, angular: bool, seed: int) -> LatentMap:
    """Put up to 1000 latents on a plane: t-SNE where scikit-learn is there, else the first two principal components."""
    rows = np.flatnonzero(np.isfinite(sample.latents).all(axis=1))[:MAX_POINTS]
    latents = sample.latents[rows].astype(np.float64)
    if angular:  # the cosine is all that an angular index looks at
        latents /= np.maximum(np.linalg.norm(latents, axis=1, keepdims=True), 1e-12)
    places = _tsne(latents, seed)
    method = "PCA" if places is None else "t-SNE"
    return LatentMap(method, rows, _to_px(_pca(latents, seed) if places is None else places))


def _tsne(latents: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.float64] | None:
    """Return `[n, 2]`, None where it cannot be had or has nothing to tell apart."""
    try:
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits
    except ImportError:
        return None
    if len(latents) < _FEWEST_FOR_TSNE or latents.shape[1] < 2 or not np.ptp(latents, axis=0).max() > 1e-9:
        return None
    perplexity = min(30.0, (len(latents) - 1) / 3)
    with threadpool_limits(1):  # on a busy machine its threads wait for each other; eight times slower was seen
        tsne = TSNE(init="pca", perplexity=perplexity, random_state=seed)
        places: npt.NDArray[np.float64] = tsne.fit_transform(latents)
    return places if np.isfinite(places).all() else None


def _pca(latents: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.float64]:
    """Return the first two principal components `[n, 2]`; 0 where there is no second one."""
    plane = np.zeros((len(latents), 2))
    if len(latents):
        rows = latents.astype(np.float32)
        found = fit_components(lambda: iter([rows]), 2, seed=seed, power=0.0).of(rows)
        plane[:, : found.shape[1]] = found
    return plane


def _to_px(places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    if not len(places):
        return places
    low, high = places.min(axis=0), places.max(axis=0)
    scale = (_SIDE - 2 * _MARGIN) / max(float((high - low).max()), 1e-9)
    placed: npt.NDArray[np.float64] = (places - (low + high) / 2) * (scale, -scale) + _SIDE / 2
    return placed


def mark_numbers(labels: Sequence[str | None]) -> dict[str | None, int]:
    """Return the mark of each of the most frequent labels, by name; what is left has the mark `MARKED_LABELS`."""
    counts = Counter(label for label in labels if label is not None)
    frequent = sorted(counts, key=lambda label: (-counts[label], label))[:MARKED_LABELS]
    return {label: at for at, label in enumerate(sorted(frequent))}


def marks_figure(sample: LatentSample, laid: LatentMap) -> Markup:
    """Return the map with a mark for each latent, and the legend of the marks."""
    numbers = mark_numbers([sample.labels[row] for row in laid.rows])
    marks = []
    for row, (x, y) in zip(laid.rows, laid.places, strict=True):
        label = sample.labels[row]
        title = element("title", f"{label_text(label)}: {key_text(sample.keys[row])}")
        number = numbers.get(label, MARKED_LABELS)
        marks.append(element("use", title, cls=f"m{number}", attributes=_at(number, x, y)))
    told = f"{len(laid.rows)} latents by {laid.method}, marked by label"
    shapes = element("defs", *(_shape(number) for number in range(MARKED_LABELS + 1)))
    names = _names(sample, laid, numbers)
    figure = svg(_SIDE, _SIDE, told, shapes, _method(laid), *marks, *names, cls="map")
    rest = len(set(sample.labels) - numbers.keys())
    return element("figure", figure, _legend(numbers, rest))


def _at(number: int, x: float, y: float) -> Attributes:
    return {"href": f"#mark{number}", "x": f"{x:.1f}", "y": f"{y:.1f}"}


def _shape(number: int) -> Markup:
    drawn = _MARKS[number] if number < MARKED_LABELS else _OTHER_MARK
    return element("path", attributes={"id": f"mark{number}", "d": drawn})


def _method(laid: LatentMap) -> Markup:
    return text(12, _SIDE - 12, f"{laid.method} of {len(laid.rows)} latents", "axis")


def _names(sample: LatentSample, laid: LatentMap, numbers: dict[str | None, int]) -> list[Markup]:
    """Return the label names at the middle of their latents, moved down where they would hide each other."""
    labels = np.array([numbers.get(sample.labels[row], -1) for row in laid.rows])
    middles = [(np.median(laid.places[labels == number], axis=0), label) for label, number in numbers.items()]
    taken: list[tuple[float, float]] = []
    names = []
    for (x, y), label in sorted(middles, key=lambda one: float(one[0][1])):
        while any(abs(x - left) < 90 and abs(y - top) < 20 for left, top in taken):
            y += 4
        taken.append((x, y))
        names.append(text(x, y, shortened(label_text(label), 18), "place", anchor="middle"))
    return names


def _legend(numbers: dict[str | None, int], rest: int) -> Markup:
    entries = [(number, label_text(label)) for label, number in numbers.items()]
    if rest:
        entries.append((MARKED_LABELS, "no label" if not numbers else f"{rest} other" + ("s" if rest > 1 else "")))
    shown = []
    for number, name in entries:
        mark = element("use", cls=f"m{number}", attributes=_at(number, 8, 8))
        picture = element("svg", mark, attributes={"viewBox": "0 0 16 16", "aria-hidden": "true"})
        shown.append(element("li", picture, element("bdi", name)))
    return element("ul", *shown, cls="legend")


def pictures_figure(sample: LatentSample, laid: LatentMap, album: Album) -> Markup | None:
    """Return the map as a mosaic, in each cell the picture that is nearest to its middle; None where there is none."""
    cells = np.floor(laid.places / _CELL)
    far = np.abs(laid.places - (cells + 0.5) * _CELL).max(axis=1)
    shown: dict[tuple[int, int], Markup] = {}
    for at in np.argsort(far, kind="stable"):
        row, cell = laid.rows[at], (int(cells[at, 0]), int(cells[at, 1]))
        if cell in shown or len(shown) == MAX_PICTURES:
            continue
        uri = album.uri(sample.pictures[row], 2 * _CELL)
        if uri is not None:
            shown[cell] = _picture(uri, cell, f"{label_text(sample.labels[row])}: {key_text(sample.keys[row])}")
    if not shown:
        return None
    told = f"The same map with {len(shown)} of its pictures"
    return element("figure", svg(_SIDE, _SIDE, told, *shown.values(), _method(laid), cls="map"))


def _picture(uri: str, cell: tuple[int, int], told: str) -> Markup:
    side = _CELL - 1
    place: Attributes = {"href": uri, "x": cell[0] * _CELL, "y": cell[1] * _CELL, "width": side, "height": side}
    return element("image", element("title", told), attributes=place)
