"""Any sequence of changes and questions answers as a dictionary and brute force do."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from guests import GUESTS, oracle_of
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from index_items import CARD

from ae_search.contract import Resources
from ae_search.errors import ConfigurationError

DIM = 3
# Few keys, so that the same ones come and go.
KEYS = st.sampled_from([f"key {i}" for i in range(14)] + ["", "ü/猫", "'; --", "%"])
LABELS = st.none() | st.sampled_from(["a", "b", "", "5"])
SCALARS = st.none() | st.booleans() | st.sampled_from([0, 1, 5, 2.5, -3]) | st.sampled_from(["", "a", "5", "ü"])
FIELDS = {"x": SCALARS, "y": SCALARS, "z": st.lists(SCALARS, max_size=2)}
METADATA = st.none() | st.fixed_dictionaries({}, optional=FIELDS)
THUMBNAILS = st.none() | st.binary(max_size=3)
DIGESTS = st.none() | st.sampled_from(["one", "two", "sha256:00"])
# Few latents as well, so that some are equal; none is another one scaled, whose angular distance rounding decides.
POOL = np.random.default_rng(91).normal(size=(25, DIM)).astype(np.float32)
LATENTS = st.integers(0, 20).map(POOL.__getitem__)
QUERIES = st.integers(0, 24).map(POOL.__getitem__)
ORDERED = st.sampled_from([0, 1, 5, 2.5, -3]) | st.sampled_from(["", "a", "5", "ü"])
TESTS = st.one_of(
    SCALARS,
    st.fixed_dictionaries({"eq": SCALARS}),
    st.fixed_dictionaries({"in": st.lists(SCALARS, min_size=1, max_size=3)}),
    st.dictionaries(st.sampled_from(["lt", "lte", "gt", "gte"]), ORDERED, min_size=1, max_size=2),
)
WHERE = st.dictionaries(st.sampled_from(["x", "y", "z", "label", "key", "absent"]), TESTS, min_size=1, max_size=2)
# The items of a block have the first one, two or all of the three latents.
ITEM = st.tuples(st.tuples(LATENTS, LATENTS, LATENTS), LABELS, METADATA, THUMBNAILS, DIGESTS)
EACH = st.sampled_from([None, 1, 2, 3])
FIELDS_GIVEN = st.sets(st.sampled_from(["latents", "labels", "metadata", "thumbnails", "digests"]))
ITEMS = st.dictionaries(KEYS, ITEM, max_size=6)


def block(items, each):
    """Return items as `add` takes them: their latents as `[n, each, d]`, or as `[n, d]` where each is None."""
    names = ("latents", "labels", "metadata", "thumbnails", "digests")
    columns = dict(zip(names, zip(*items.values(), strict=True) if items else ((),) * 5, strict=True))
    latents = np.array(columns["latents"], np.float32).reshape(-1, 3, DIM)
    return columns | {"keys": list(items), "latents": latents[:, 0] if each is None else latents[:, :each]}


class Changes(RuleBasedStateMachine):
    """One index with a writer and a reader of its own, beside the dictionary."""

    guest_class, metric = GUESTS[0], "angular"

    @initialize(items=st.dictionaries(KEYS, ITEM, min_size=1, max_size=12), each=EACH)
    def build(self, items, each):
        self.folder = tempfile.TemporaryDirectory()
        self.guest = self.guest_class(lambda: Path(tempfile.mkdtemp(dir=self.folder.name)))
        self.oracle, self.place = oracle_of(self.guest, self.metric), self.guest.place()
        self.oracle.add(**block(items, each))
        with self.guest.build(self.place, replace(CARD, latent_dim=DIM, metric=self.metric)) as builder:
            builder.add(**block(items, each))
        self.writer, self.reader = (self.guest.open(self.place) for _ in range(2))

    def change(self, name, is_fine, /, **arguments):
        if is_fine:
            getattr(self.writer, name)(**arguments)
            getattr(self.oracle, name)(**arguments)
        else:
            with pytest.raises(ConfigurationError):
                getattr(self.writer, name)(**arguments)

    @rule(items=ITEMS, each=EACH)
    def add(self, items, each):
        self.change("add", not set(items) & set(self.oracle.items), **block(items, each))

    @rule(items=ITEMS, each=EACH, fields=FIELDS_GIVEN)
    def update_any(self, items, each, fields):
        given = {name: value for name, value in block(items, each).items() if name in fields | {"keys"}}
        self.change("update", set(items) <= set(self.oracle.items), **given)

    @precondition(lambda self: self.oracle.items)
    @rule(data=st.data(), each=EACH, fields=FIELDS_GIVEN)
    def update(self, data, each, fields):
        items = data.draw(st.dictionaries(st.sampled_from(list(self.oracle.items)), ITEM, max_size=4))
        self.change("update", True, **{k: v for k, v in block(items, each).items() if k in fields | {"keys"}})

    @rule(keys=st.lists(KEYS, max_size=4))
    def remove_any(self, keys):
        self.change("remove", len(set(keys)) == len(keys) and set(keys) <= set(self.oracle.items), keys=keys)

    @precondition(lambda self: self.oracle.items)
    @rule(data=st.data())
    def remove(self, data):
        keys = data.draw(st.lists(st.sampled_from(list(self.oracle.items)), unique=True, max_size=8))
        self.change("remove", True, keys=keys)

    @rule(name=st.sampled_from(["null", "cut"]), values=st.fixed_dictionaries({}, optional=FIELDS))
    def calibrate(self, name, values):
        self.change("calibrate", True, name=name, values=values)

    @rule()
    def compact(self):
        self.writer.compact(Resources(1))

    @rule(query=QUERIES, k=st.integers(1, 25))
    def search(self, query, k):
        expected = self.oracle.ranked(query)[:k]
        for options in ({"exact": True}, {"effort": self.guest.exhaustive}):
            assert [n.key for n in self.reader.search(query, k, **options)[0]] == expected

    @rule(query=QUERIES, k=st.integers(1, 25), where=WHERE)
    def search_with_a_filter(self, query, k, where):
        expected = self.oracle.ranked(query, where)
        for options in ({"exact": True}, {"effort": self.guest.exhaustive}, {}):
            found = [n.key for n in self.reader.search(query, k, where=where, **options)[0]]
            assert found == expected[:k] or (not options and len(found) == len(expected[:k]))

    @precondition(lambda self: self.oracle.items)
    @rule(data=st.data(), k=st.integers(1, 25))
    def search_by_key(self, data, k):
        own = data.draw(st.sampled_from(list(self.oracle.items)))
        expected = [key for key in self.oracle.ranked(self.oracle.items[own].latent) if key != own][:k]
        assert [n.key for n in self.reader.search_by_key(own, k, exact=True)] == expected

    @rule()
    def reopen(self):
        self.writer.close()
        self.writer = self.guest.open(self.place)
        self.oracle.check(self.writer)

    @invariant()
    def the_reader_agrees(self):
        if hasattr(self, "oracle"):
            self.oracle.check(self.reader)

    def teardown(self):
        if hasattr(self, "folder"):
            for index in (self.writer, self.reader):
                index.close()
            self.folder.cleanup()


BOUNDED = settings(
    # To make a failure short, which takes minutes, add Phase.shrink.
    phases=[Phase.generate],
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=30,
    stateful_step_count=25,
    suppress_health_check=[HealthCheck.too_slow],
)

for _guest in GUESTS:
    for _metric in ("angular", "euclidean"):
        _name = f"{_guest.name.title()}{_metric.title()}Changes"
        _case = type(_name, (Changes,), {"guest_class": _guest, "metric": _metric}).TestCase
        _case.settings = BOUNDED
        globals()[f"Test{_name}"] = _case
        del _case
