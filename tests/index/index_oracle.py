"""What an index must hold and answer: a plain dictionary, and NumPy brute force."""

from collections.abc import Mapping
from copy import copy
from typing import NamedTuple

import numpy as np

from ae_search.contract import Index


class Item(NamedTuple):
    latents: np.ndarray  # [r, d]
    label: str | None
    metadata: dict
    thumbnail: bytes | None
    digest: str | None = None

    @property
    def latent(self):
        """The first one."""
        return self.latents[0]


class Oracle:
    """The items in the order of their ids.

    Args:
        metric: "angular" or "euclidean".
        fingerprint: That of the model.
        moves: Whether an update gives an item a new id, behind all others.
    """

    def __init__(self, metric="angular", fingerprint="ab" * 32, *, moves=True):
        self.metric, self.fingerprint, self.moves = metric, fingerprint, moves
        self.items = {}
        self.calibration = {}

    @classmethod
    def read(cls, index: Index):
        oracle = cls(index.metric, index.model.fingerprint)
        oracle.calibration = index.calibration()
        names = list(index.items())
        keys = [key for key, _, _ in names]
        given = zip(names, index.all_latents(keys), index.digests(keys), strict=True)
        for (key, label, metadata), rows, digest in given:
            oracle.items[key] = Item(rows, label, metadata, index.thumbnail(key), digest)
        return oracle

    def copy(self):
        other = copy(self)
        other.items, other.calibration = dict(self.items), dict(self.calibration)
        return other

    def add(self, latents, keys, labels=None, *, metadata=None, thumbnails=None, digests=None):
        none = [None] * len(keys)
        given = zip(
            keys,
            _of_each(latents),
            labels or none,
            metadata or none,
            thumbnails or none,
            digests or none,
            strict=True,
        )
        for key, rows, label, values, thumbnail, digest in given:
            assert key not in self.items
            self.items[key] = Item(rows, label, values or {}, thumbnail, digest)

    def update(self, keys, *, latents=None, labels=None, metadata=None, thumbnails=None, digests=None):
        rows = None if latents is None else _of_each(latents)
        for at, key in enumerate(keys):
            old = self.items.pop(key) if self.moves else self.items[key]
            self.items[key] = Item(
                old.latents if rows is None else rows[at],
                old.label if labels is None else labels[at],
                old.metadata if metadata is None else metadata[at] or {},
                old.thumbnail if thumbnails is None else thumbnails[at],
                old.digest if digests is None else digests[at],
            )

    def remove(self, keys):
        for key in keys:
            del self.items[key]

    def calibrate(self, name, values):
        self.calibration[name] = dict(values)

    def distances(self, query, keys, *, first_latents=False):
        """Return the squared distance of some items `[n]`, each by its nearest latent, or by its first."""
        every = [self.items[key].latents[: 1 if first_latents else None] for key in keys]
        counts = list(map(len, every))
        rows = np.concatenate(every).astype(np.float64)
        wide = np.asarray(query, np.float64)
        if self.metric == "angular":
            norms = np.sqrt((rows**2).sum(axis=1) * (wide**2).sum())
            cosines = np.divide((rows * wide).sum(axis=1), norms, out=np.zeros(len(rows)), where=norms > 0)
            squares = 2 - 2 * cosines
        else:
            squares = ((rows - wide) ** 2).sum(axis=1)
        # Rounded, so that what is equal but for the order of the additions is equal here as well.
        return np.minimum.reduceat(squares, np.cumsum([0, *counts[:-1]])).round(12)

    def ranked(self, query, where=None, *, first_latents=False):
        """Return the keys of the items that meet a filter, nearest first, equal distances by id."""
        keys = [key for key, item in self.items.items() if where is None or meets(where, key, item)]
        if not keys:
            return []
        return [keys[at] for at in np.argsort(self.distances(query, keys, first_latents=first_latents), kind="stable")]

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
        if index.digests(keys) != [item.digest for item in self.items.values()]:
            return f"digests {index.digests(keys)}"
        if (received := index.calibration()) != self.calibration:
            return f"calibration: expected {self.calibration}, received {received}"
        pairs = zip(keys, index.latents(keys), index.all_latents(keys), strict=True)
        for key, first, rows in pairs:
            expected = self.items[key].latents
            if first.tobytes() != expected[0].tobytes() or not np.array_equal(rows, expected):
                return f"latents of {key}"
            if index.thumbnail(key) != self.items[key].thumbnail:
                return f"thumbnail of {key}"
        return self._wrong_answer(index)

    def _wrong_answer(self, index):
        rows = [item.latents[-1] for item in self.items.values()]
        queries = np.array([*rows[:2], *rows[-1:], np.linspace(-1, 1, index.latent_dim)], np.float32)
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


def _of_each(latents):
    """Return the latents `[r, d]` of each item."""
    rows = np.asarray(latents, np.float32)
    return list(rows if rows.ndim == 3 else rows[:, np.newaxis])


def meets(where, key, item):
    """Tell whether an item meets a filter, by what `parse_where` promises."""
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
