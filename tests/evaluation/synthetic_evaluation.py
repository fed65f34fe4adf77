"""An evaluation with made-up figures, as a report or an export takes it."""

import io
from dataclasses import replace

import numpy as np
from pictures import coloured_picture, encoded
from PIL import Image

from ae_search.contract import ModelRef
from ae_search.evaluation.results import (
    Confusion,
    Evaluation,
    IndexRecall,
    RecallAtEffort,
    Retrieval,
    ReverseSearch,
)
from ae_search.evaluation.shown import Answer, Examples, LatentSample, QueryResult, Reconstructions

LABELS = ("bag", "coat", "shirt")
NAMES = ("ours version 3", "pixels", "gradients, PCA")
CURVE = (
    RecallAtEffort(100, 0.7, 0.01, 0.05),
    RecallAtEffort(200, 0.9, 0.01, 0.1),
    RecallAtEffort(400, 0.98, 0.01, 0.2),
)


def picture(seed=0, form="PNG", size=(28, 28)):
    return encoded(coloured_picture(seed, size), form)


def query(label, found, *, key="query", data=None):
    answers = tuple(
        Answer(f"item {at}", one, 0.9 - at / 20, picture(at, "JPEG") if data is None else data)
        for at, one in enumerate(found)
    )
    precision = sum(one == label for one in found) / max(1, len(found))
    return QueryResult(key, label, answers, precision, precision / 2, picture() if data is None else data)


def sample(count=40, dim=6, *, labels=LABELS):
    rng = np.random.default_rng(0)
    centres = 4 * rng.standard_normal((len(labels), dim))
    latents = (centres[np.arange(count) % len(labels)] + rng.standard_normal((count, dim))).astype(np.float32)
    return LatentSample(
        latents,
        tuple(f"item {at}" for at in range(count)),
        tuple(labels[at % len(labels)] for at in range(count)),
        tuple(picture(at, "JPEG") for at in range(count)),
    )


def evaluation(*, labels=LABELS, **changes):
    """Return one with every part; `changes` replace fields of it."""
    count = len(labels)
    shares = np.full((count, count), 0.1) + np.eye(count) * (0.9 - 0.1 * (count - 1))
    retrieval = tuple(
        Retrieval(
            name,
            16 * 2**at,
            {1: 0.9 - at / 10, 10: 0.8 - at / 10, 100: 0.7 - at / 10},
            0.5 - at / 10,
            {label: 0.9 - at / 10 - where / (10 + count) for where, label in enumerate(labels)},
        )
        for at, name in enumerate(NAMES)
    )
    reverse = tuple(
        ReverseSearch(name, {"crop": 0.9 - at / 10, "noise": 0.6 + at / 10}, 50, 1.5 if at == 0 else None)
        for at, name in enumerate(NAMES)
    )
    originals = np.random.default_rng(0).random((4, 28, 28, 1)).astype(np.float32)
    made = Evaluation(
        index="index",
        model=ModelRef("ours", 3, "ab" * 32),
        metric="angular",
        latent_dim=6,
        image_shape=(28, 28, 1),
        items=1234,
        source="made/test",
        queries=200,
        seed=0,
        created="2025-01-02T03:04:05+00:00",
        retrieval=retrieval,
        reverse_search=reverse,
        recall=IndexRecall(0.98, 400, 0.2, 0.5, 200, CURVE),
        confusion=Confusion(tuple(labels), shares),
        examples=Examples(
            hits=(query(labels[0], [labels[0]] * 10),),
            misses=(query(labels[1], [labels[0], *[labels[1]] * 9]),),
            worst=(query(labels[-1], [labels[0]] * 10),),
        ),
        latents=sample(labels=labels),
        reconstructions=Reconstructions(originals, originals * 0.5, tuple(labels[:1]) * 4, 0.0123),
    )
    return replace(made, **changes)


def bomb():
    """A PNG whose header promises far more pixels than its few bytes hold."""
    buffer = io.BytesIO()
    Image.new("L", (1, 1)).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    return bytes(data)
