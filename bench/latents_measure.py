"""The measurements of latents; each function is a job for a process of its own."""

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.pictures import Pixels, Protocol, backbone_file, pictures
from bench.probe import linear_probe
from bench.trainings import MEASURED_BY, TRAININGS, Trained, digest

Vectors = npt.NDArray[Any]

DEPTH = 1000
SEED = 0
LATENT_DIM = 128
PHOTO_SHAPE = (64, 64, 3)
FASHION_SHAPE = (28, 28, 1)
# Copies whose views are searched at once: with 34 views each, 60,000 items have 82 MB of scores.
COPIES_AT_ONCE = 10
TIMED_QUERIES = 200


def shape_of(protocol: Protocol) -> tuple[int, int, int]:
    """Return the shape that baselines see the images in."""
    return PHOTO_SHAPE if protocol.split in ("photos", "objects") else FASHION_SHAPE


def baselines(protocol: Protocol) -> list[dict[str, Any]]:
    """Measure retrieval by each baseline, fitted to the database, unless that was done before by the same code."""
    rows: list[dict[str, Any]] = _kept(f"baselines and probes {protocol}", lambda: _measured_baselines(protocol))
    return rows


def _kept(name: str, measure: Callable[[], Any]) -> Any:
    """Return figures that no training changes."""
    path = TRAININGS / f"{digest((*MEASURED_BY, 'data', 'model', 'principal.py'), name)}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(measure()), encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


def _measured_baselines(protocol: Protocol) -> list[dict[str, Any]]:
    database, queries = protocol.sources()
    pixels, labels = pictures(database, shape_of(protocol))
    asked, wanted = pictures(queries, shape_of(protocol))
    rows = []
    for name, vectors in _baselines(pixels):
        items, given = vectors(pixels), vectors(asked)
        figures = _judge(items, given, labels, wanted)
        # A probe of thousands of floats takes hours, and is no comparison with one of a latent.
        if items.shape[1] <= LATENT_DIM:
            figures["probe"] = linear_probe(items, labels, given, wanted)
        rows.append({"name": name, "floats": items.shape[1]} | figures)
    return rows


def pooled_features(protocol: Protocol) -> dict[str, Any]:
    """Measure retrieval by what a backbone says of the whole image: the ten lines that a training has to beat."""
    row: dict[str, Any] = _kept(f"pooled features {protocol}", lambda: _measured_features(protocol))
    return row


def _measured_features(protocol: Protocol) -> dict[str, Any]:
    import keras

    from ae_search.principal import fit_components

    backbone = keras.models.load_model(backbone_file(), compile=False)
    shape = backbone.input_shape[1:]
    (items, labels), (queries, wanted) = (
        (backbone.predict(pixels.astype(np.float32) / 255, verbose=0), names)
        for pixels, names in (pictures(source, shape) for source in protocol.sources())
    )
    whole = fit_components(lambda: iter([items]), LATENT_DIM, seed=SEED, power=0.0)
    figures = _judged(whole.of(items), whole.of(queries), labels, wanted)
    return {"name": "backbone, pooled, PCA", "floats": LATENT_DIM} | figures


def simclr(protocol: Protocol, seconds: float) -> dict[str, Any]:
    """Measure retrieval by SimCLR, trained for so many seconds."""
    row: dict[str, Any] = _kept(f"SimCLR {protocol} {seconds:.0f}", lambda: _measured_simclr(protocol, seconds))
    return row


def _measured_simclr(protocol: Protocol, seconds: float) -> dict[str, Any]:
    from bench.simclr import train_simclr

    (pixels, labels), (asked, wanted) = (pictures(source, shape_of(protocol)) for source in protocol.sources())
    done = train_simclr(pixels, seconds, seed=SEED)
    figures = _judged(done.latents(pixels), done.latents(asked), labels, wanted)
    figures |= {"epochs": done.epochs, "seconds": done.seconds}
    return {"name": "SimCLR", "floats": LATENT_DIM} | figures | {"runs": [figures]}


def retrieval(protocol: Protocol, trained: Trained) -> dict[str, float]:
    """Measure retrieval by the latents of a training, and a linear probe; the figures are kept beside it."""

    def measure() -> dict[str, float]:
        labels, wanted = ([str(label) for label in source.labels] for source in protocol.sources())
        return _judged(trained.items(), trained.queries(), labels, wanted)

    return trained.kept("retrieval and probe", measure)


@dataclass(frozen=True)
class Altered:
    """Altered copies of some items.

    Attributes:
        protocol: Whose database they are from.
        count: How many items are altered, each in every way.
    """

    protocol: Protocol
    count: int

    def make(self) -> tuple[dict[str, Pixels], npt.NDArray[np.int64], Pixels]:
        """Return the copies by alteration, the numbers of the originals, and the images of all items."""
        from ae_search.evaluation.measures.copy_alterations import EVERYDAY, altered

        pixels, _ = pictures(self.protocol.sources()[0], shape_of(self.protocol))
        chosen = np.sort(np.random.default_rng(SEED).permutation(len(pixels))[: self.count])
        return {way: altered(pixels[chosen], way, seed=SEED) for way in EVERYDAY}, chosen, pixels


def reverse_baselines(altered: Altered) -> dict[str, dict[str, float]]:
    """Return the share of copies whose original comes first, by alteration, under pixels and under gradients."""
    rows: dict[str, dict[str, float]] = _kept(f"reverse {altered}", lambda: _measured_reverse(altered))
    return rows


def _measured_reverse(altered: Altered) -> dict[str, dict[str, float]]:
    copies, chosen, pixels = altered.make()
    rows = {}
    for name, vectors in _baselines(pixels):
        if name in ("pixels", "gradients, PCA"):
            items = vectors(pixels)
            rows[name] = {way: _first(vectors(some), items, chosen) for way, some in copies.items()}
    return rows


def reverse(altered: Altered, trained: Trained, *, views: bool) -> dict[str, float]:
    """Return the same under the latents of a training, by the query alone or by altered views of it as well."""
    from ae_search.model_server import LocalEncoder

    def measure() -> dict[str, float]:
        copies, chosen, _ = altered.make()
        encoder, items = LocalEncoder(trained.export), trained.items()
        if views:
            return {way: _first_by_views(encoder, some, items, chosen) for way, some in copies.items()}
        return {way: _first(encoder.encode(some), items, chosen) for way, some in copies.items()}

    return trained.kept(f"reverse-{altered.count}{'-views' if views else ''}", measure)


def query_ms(altered: Altered, trained: Trained) -> dict[str, float]:
    """Time a query from pixels to ten neighbours through an index and the encoder in this process.

    Returns:
        Median milliseconds of a "plain" query and of one with "views", asked in turn.
    """
    from ae_search import ImageSearch, LatentIndex
    from ae_search.index import IndexBuilder
    from ae_search.model_server import LocalEncoder

    copies, _, _ = altered.make()
    queries = [image for some in copies.values() for image in some[: -(-TIMED_QUERIES // len(copies))]]
    encoder, items = LocalEncoder(trained.export), trained.items()
    with tempfile.TemporaryDirectory() as folder:
        with IndexBuilder(Path(folder, "index"), encoder.describe()) as builder:
            builder.add(items, [f"item/{at}" for at in range(len(items))], [None] * len(items))
        search = ImageSearch(encoder, LatentIndex.open(Path(folder, "index")))
        ways: dict[str, Callable[[Pixels], object]] = {
            "plain": search.search,
            "views": lambda image: search.search(image, views=True),
        }
        for way in ways.values():
            way(queries[0])
        turns = [{name: _ms(way, image) for name, way in ways.items()} for image in queries]
    ms = {name: [turn[name] for turn in turns] for name in ways}
    return {name: median(times) for name, times in ms.items()}


def _baselines(pixels: Pixels) -> Iterator[tuple[str, Callable[[Pixels], Vectors]]]:
    """Yield the baselines of the package, and principal components as they are, not scaled."""
    from ae_search.evaluation.measures.baselines import fit_baselines
    from ae_search.principal import fit_components

    def flat(images: Pixels) -> npt.NDArray[np.float32]:
        return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)

    whole = fit_components(lambda: iter([flat(pixels)]), min(LATENT_DIM, len(pixels)), seed=SEED)
    lengths = np.linalg.norm(whole.axes, axis=0)
    yield "pixels, PCA not scaled", lambda images: whole.of(flat(images)) / lengths
    for baseline in fit_baselines(pixels, LATENT_DIM, seed=SEED):
        yield baseline.name, baseline.vectors


def _judge(items: Vectors, queries: Vectors, labels: list[str], wanted: list[str]) -> dict[str, float]:
    """Return precision and mean average precision by exact cosine search."""
    from ae_search.evaluation.measures.metrics import Judged, NumberedLabels
    from ae_search.nearest import NONE, top_k

    found = top_k(queries, items, min(DEPTH, len(items)), "angular")
    judged = Judged.of(found, NumberedLabels.of(wanted, labels), np.full(len(queries), NONE))
    figures = {f"precision@{k}": float(judged.precision(k).mean()) for k in (1, 10, 100)}
    return figures | {"mAP@1000": float(judged.average_precision.mean())}


def _judged(items: Vectors, queries: Vectors, labels: list[str], wanted: list[str]) -> dict[str, float]:
    """Return the same, and what a linear probe finds."""
    return _judge(items, queries, labels, wanted) | {"probe": linear_probe(items, labels, queries, wanted)}


def _first(queries: Vectors, items: Vectors, own: npt.NDArray[np.int64]) -> float:
    from ae_search.nearest import top_k

    return float((top_k(queries, items, 1, "angular")[:, 0] == own).mean())


def _first_by_views(encoder: Any, copies: Pixels, items: Vectors, own: npt.NDArray[np.int64]) -> float:
    """Search exactly with all views of each copy, as `search(views=True)` does in an index without a calibration.

    An item counts by the view that it is nearest to, in the way to read latents by which it is nearest.
    """
    from ae_search.search.readings import readings
    from ae_search.views import query_views

    unit, card, hits = _unit(items), encoder.describe(), 0
    for start in range(0, len(copies), COPIES_AT_ONCE):
        views = [query_views(copy) for copy in copies[start : start + COPIES_AT_ONCE]]
        counts = [len(some) for some in views]
        copy_of = np.repeat(np.arange(len(views)), counts)
        best = np.full((len(views), len(items)), -np.inf, np.float32)
        for reading in readings(encoder.encode(np.concatenate(views)), counts, card):
            # A query's own length does not change which item is nearest to it, but which of its views is.
            similarities = _unit(reading.latents) @ unit.T
            if reading.factors is not None:
                similarities *= reading.factors[:, None].astype(np.float32)
            for at in range(len(views)):
                np.maximum(best[at], similarities[copy_of[reading.rows] == at].max(axis=0), out=best[at])
        hits += int((best.argmax(axis=1) == own[start : start + len(views)]).sum())
    return hits / len(copies)


def _unit(vectors: Vectors) -> Vectors:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def _ms(call: Callable[[Pixels], object], image: Pixels) -> float:
    began = time.perf_counter()
    call(image)
    return 1e3 * (time.perf_counter() - began)
