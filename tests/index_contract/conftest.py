"""What the tests of the contract begin with, for each guest."""

from dataclasses import replace

import pytest
from guests import GUESTS, oracle_of
from index_items import CARD, clustered, small_block

# Each call of a server waits for it: what finds little that the others do not find is left to `make slowtest`.
SLOW_ON_A_SERVER = {
    "test_contract_blocks",
    "test_contract_compact",
    "test_contract_duplicates",
    "test_contract_filtered_search",
    "test_contract_filters",
    "test_contract_lookup",
    "test_contract_properties",
    "test_contract_rebuilding",
    "test_contract_refusals",
    "test_contract_several",
}


ASKED_OF_CODES = {"test_contract_search"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        # What its cells hold is all that is its own.
        if "faiss-8bit" in item.nodeid and item.module.__name__ not in ASKED_OF_CODES:
            item.add_marker(pytest.mark.slow)
        if item.module.__name__ in SLOW_ON_A_SERVER and "pgvector" in item.nodeid.lower():
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", params=GUESTS, ids=lambda guest: guest.name)
def guest(request, tmp_path_factory):
    return request.param(lambda: tmp_path_factory.mktemp("place"))


@pytest.fixture(autouse=True)
def _needs(request):
    """Leave out what a guest does not promise."""
    for mark in request.node.iter_markers("needs"):
        if mark.args[0] in request.getfixturevalue("guest").missing:
            pytest.skip(f"{request.getfixturevalue('guest').name} does without {mark.args[0]}")


@pytest.fixture(params=["angular", "euclidean"])
def metric(request):
    return request.param


@pytest.fixture
def latents():
    return clustered()


@pytest.fixture
def make(guest, latents):
    """Return a function that builds an index of latents, with the keys key-0, key-1 and so on, and returns its place.

    Their labels are label-0 to label-4 in turn.
    """

    def build(rows=latents, *, metric="angular", place=None, card=CARD, **options):
        place = guest.place() if place is None else place
        with guest.build(place, replace(card, metric=metric), **options) as builder:
            builder.add(rows, [f"key-{i}" for i in range(len(rows))], [f"label-{i % 5}" for i in range(len(rows))])
        return place

    return build


@pytest.fixture(scope="session")
def _ready_places(guest):
    """Indexes of the latents, one for each metric, to be read or copied and never changed."""
    places = {}
    for metric in ("angular", "euclidean"):
        rows, places[metric] = clustered(), guest.place()
        with guest.build(places[metric], replace(CARD, metric=metric)) as builder:
            builder.add(rows, [f"key-{i}" for i in range(600)], [f"label-{i % 5}" for i in range(600)])
    return places


@pytest.fixture
def index(guest, metric, _ready_places):
    """Such an index, not to be changed."""
    with guest.open(_ready_places[metric]) as opened:
        yield opened


@pytest.fixture(scope="session")
def _small_places(guest):
    """Indexes of items that have all that an item can have, one for each metric, and what they must hold."""
    made = {}
    for metric in ("angular", "euclidean"):
        place, oracle = guest.place(), oracle_of(guest, metric)
        with guest.build(place, replace(CARD, metric=metric)) as builder:
            builder.add(**small_block())
        oracle.add(**small_block())
        made[metric] = place, oracle
    return made


@pytest.fixture
def small(guest, metric, _small_places):
    """A copy of such an index, and what it must hold."""
    place, oracle = _small_places[metric]
    return guest.copied(place), oracle.copy()


@pytest.fixture
def pair(guest, small):
    """Such an index opened by a writer and by a reader of its own, and what it must hold."""
    place, oracle = small
    with guest.open(place) as writer, guest.open(place) as reader:
        oracle.check(reader)
        yield writer, reader, oracle


@pytest.fixture
def both(pair):
    """Return a function that makes a change in the index and in the oracle, and holds that every reader sees it."""
    writer, reader, oracle = pair

    def change(name, /, **arguments):
        getattr(writer, name)(**arguments)
        getattr(oracle, name)(**arguments)
        oracle.check(reader)
        oracle.check(writer)

    return change
