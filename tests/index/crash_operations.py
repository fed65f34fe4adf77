"""The writes of the crash test: what each does to an index, and what it must do to the dictionary.

Both follow from the operation's kind and seed and from what the index held before, so that one line in a journal says
all.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from index_fixtures import CARD, DIM
from index_oracle import Oracle

from ae_search.index import AnnoyOptions, BuildOptions, FaissOptions, Resources
from ae_search.open_index import build_index, is_postgres, open_index

KINDS = ("build", "add", "update", "remove", "compact", "tune", "rebuild")
FINGERPRINTS = ("ab" * 32, "cd" * 32)


class Operation(NamedTuple):
    kind: str
    seed: int


def card_of(fingerprint, metric):
    return replace(CARD, fingerprint=fingerprint, metric=metric)


def outcome(operation, before):
    """Return what the index must hold when the operation has returned."""
    after = before.copy()
    if operation.kind == "build":
        after.items = {}
    if operation.kind in ("build", "rebuild"):
        after.fingerprint = _plan(operation, before)["fingerprint"]
    if operation.kind == "rebuild":
        pairs = zip(before.items.items(), _plan(operation, before)["latents"], strict=True)
        after.items = {key: item._replace(latents=row[np.newaxis]) for (key, item), row in pairs}
    if operation.kind in ("build", "add", "update", "remove"):
        change = getattr(after, "add" if operation.kind == "build" else operation.kind)
        change(**_plan(operation, before)["arguments"])
    return after


def perform(operation, path, before):
    """Do it."""
    plan = _plan(operation, before)
    if operation.kind == "build":
        card, arguments = card_of(plan["fingerprint"], before.metric), plan["arguments"]
        # Both engines of a folder, in turn; on PostgreSQL, Annoy's default options become those of its own engine.
        own = FaissOptions() if operation.seed % 2 else AnnoyOptions(2)
        engine = AnnoyOptions() if is_postgres(path) else own
        with build_index(path, card, BuildOptions(engine, replace=True, resources=Resources(1))) as builder:
            for cut in (slice(0, 2), slice(2, None)):
                builder.add(**{name: values[cut] for name, values in arguments.items()})
    elif operation.kind == "rebuild":
        rows = iter(plan["latents"])
        card = card_of(plan["fingerprint"], before.metric)
        with open_index(path) as old, old.rebuilding(card, Resources(1)) as writer:
            for latents, items in old.blocks():
                writer.add_items(np.array([next(rows) for _ in latents], np.float32)[:, np.newaxis], items)
    else:
        with open_index(path) as index:
            arguments = dict(plan["arguments"])
            if is_postgres(path):
                arguments.pop("engine", None)  # it has one only
            getattr(index, operation.kind)(**arguments)


def _plan(operation, before):
    rng = np.random.default_rng(operation.seed)
    fingerprint = FINGERPRINTS[rng.integers(2)]
    held = [str(key) for key in rng.permutation(list(before.items))]
    arguments = {}
    if operation.kind == "build":
        arguments = _block(rng, [f"built {operation.seed} {i}" for i in range(rng.integers(3, 30))])
    elif operation.kind == "add":
        arguments = _block(rng, [f"added {operation.seed} {i}" for i in range(rng.integers(1, 12))])
    elif operation.kind == "update":
        block = _block(rng, held[: rng.integers(1, 10)])
        fields = {name for name in block if rng.random() < 0.5} | {"keys"}
        arguments = {name: values for name, values in block.items() if name in fields}
    elif operation.kind == "remove":
        # Now and then everything.
        arguments = {"keys": held if rng.random() < 0.05 else held[: min(len(held) // 2, 12)]}
    elif operation.kind == "compact":
        arguments = {"resources": Resources(1), "engine": ("annoy", "faiss")[operation.seed % 2]}
    elif operation.kind == "tune":
        arguments = {"recall": float(rng.uniform(0.3, 1.0))}
    elif operation.kind == "rebuild":
        return {"fingerprint": fingerprint, "latents": _rows(rng, len(before.items))}
    return {"fingerprint": fingerprint, "arguments": arguments}


def _rows(rng, count):
    return rng.normal(size=(count, DIM)).astype(np.float32)


def _block(rng, keys):
    return {
        "latents": _rows(rng, len(keys)),
        "keys": keys,
        "labels": [None if rng.random() < 0.3 else f"label {rng.integers(5)} ü" for _ in keys],
        "metadata": [None if rng.random() < 0.3 else {"n": int(rng.integers(100)), "猫": [None]} for _ in keys],
        # Some fill more than a page of SQLite.
        "thumbnails": [None if rng.random() < 0.5 else rng.bytes(int(rng.integers(9000))) for _ in keys],
    }


def first_build(path, metric, seed):
    """Build the index that everything begins with, and return what it holds."""
    operation, nothing = Operation("build", seed), Oracle(metric)
    perform(operation, path, nothing)
    return outcome(operation, nothing)
