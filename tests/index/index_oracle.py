"""What an index must hold and answer: a plain dictionary, and NumPy brute force."""

from collections.abc import Mapping
from copy import copy
from typing import NamedTuple

import numpy as np

from ae_search.index import LatentIndex


class Item(NamedTuple):
    latent: np.ndarray
    label: str | None
    metadata: dict
    thumbnail: bytes | None


class Oracle:
    """The items in the order of their ids; an update gives an item a new one."""

    def __init__(self, metric="angular", fingerprint="ab" * 32):
        self.metric, self.fingerprint = metric, fingerprint
        self.items = {}

    @classmethod
    def read(cls, index: LatentIndex):
        oracle = cls(index.manifest.metric, index.model.fingerprint)
        names = list(index.items())
        rows = index.latents([key for key, _, _ in names])
        for row, (key, label, metadata) in zip(rows, names, strict=True):
            oracle.items[key] = Item(row, label, metadata, index.thumbnail(key))
        return oracle

    def copy(self):
        other = copy(self)
        other.items = dict(self.items)
        return other

    def add(self, latents, keys, labels=None, *, metadata=None, thumbnails=None):
        none = [None] * len(keys)
        rows = np.asarray(latents, np.float32)
        given = zip(keys, rows, labels or none, metadata or none, thumbnails or none, strict=True)
        for key, row, label, values, thumbnail in given:
            assert key not in self.items
            self.items[key] = Item(row, label, values or {}, thumbnail)

    def update(self, keys, *, latents=None, labels=None, metadata=None, thumbnails=None):
        for at, key in enumerate(keys):
            old = self.items.pop(key)
            self.items[key] = Item(
                old.latent if latents is None else np.asarray(latents[at], np.float32),
                old.label if labels is None else labels[at],
                old.metadata if metadata is None else metadata[at] or {},
                old.thumbnail if thumbnails is None else thumbnails[at],
            )

    def remove(self, keys):
        for key in keys:
            del self.items[key]

    def ranked(self, query, where=None):
        """Return the keys of the items that meet a filter, nearest first, equal distances by id."""
        keys = [key for key, item in self.items.items() if where is None or meets(where, key, item)]
        if not keys:
            return []
        rows = np.array([self.items[key].latent for key in keys], np.float64)
        wide = np.asarray(query, np.float64)
        if self.metric == "angular":
            norms = np.sqrt((rows**2).sum(axis=1) * (wide**2).sum())
            cosines = np.divide((rows * wide).sum(axis=1), norms, out=np.zeros(len(rows)), where=norms > 0)
            squares = 2 - 2 * cosines
        else:
            squares = ((rows - wide) ** 2).sum(axis=1)
        # Rounded, so that what is equal but for the order of the additions is equal here as well.
        return [keys[at] for at in np.argsort(squares.round(12), kind="stable")]

    def difference(self, index):
        """Return the first thing that an index says otherwise, or None."""
        expected = [(key, item.label, item.metadata) for key, item in self.items.items()]
        if (received := list(index.items())) != expected:
            return f"items: expected {expected}, received {received}"
        keys = list(self.items)
        if (len(index), index.keys(), index.labels()) != (len(keys), keys, [label for _, label, _ in expected]):
            return "len, keys or labels differ from items()"
        if index.model.fingerprint != self.fingerprint:
            return f"fingerprint {index.model.fingerprint}"
        received = index.latents(keys)
        for key, row in zip(keys, received, strict=True):
            if row.tobytes() != self.items[key].latent.tobytes():
                return f"latent of {key}"
            if index.thumbnail(key) != self.items[key].thumbnail:
                return f"thumbnail of {key}"
        return self._wrong_answer(index)

    def _wrong_answer(self, index):
        rows = [item.latent for item in self.items.values()]
        dim = index.manifest.latent_dim
        queries = np.array([*rows[:2], *rows[-1:], np.linspace(-1, 1, dim)], np.float32)
        answers = index.search(queries, 7, exact=True, fingerprint=self.fingerprint)
        for query, found in zip(queries, answers, strict=True):
            if (received := [neighbour.key for neighbour in found]) != (expected := self.ranked(query)[:7]):
                return f"exact search: expected {expected}, received {received}"
        for found in index.search(queries, 5, fingerprint=self.fingerprint):
            received = {neighbour.key for neighbour in found}
            if len(received) != min(5, len(rows)) or not received <= set(self.items):
                return f"search: {received}"
        return None

    def check(self, index):
        assert self.difference(index) is None


def meets(where, key, item):
    """Tell whether an item meets a filter, by what `compile_where` promises."""
    own = {"key": key, "label": item.label}
    for name, tests in where.items():
        value = own[name] if name in own else item.metadata.get(name)
        for test, wanted in tests.items() if isinstance(tests, Mapping) else [("eq", tests)]:
            if not _meets_one(value, test, wanted):
                return False
    return True


def _meets_one(value, test, wanted):
    if test == "in":
        return any(_meets_one(value, "eq", one) for one in wanted)
    if _kind(value) != _kind(wanted):
        return False
    if test == "eq":
        return value == wanted
    return {"lt": value < wanted, "lte": value <= wanted, "gt": value > wanted, "gte": value >= wanted}[test]


def _kind(value):
    return float if isinstance(value, int | float) and not isinstance(value, bool) else type(value)
