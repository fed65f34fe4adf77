"""What a guest does not promise, it refuses; what it promises, it does."""

import numpy as np
import pytest
from guests import GUESTS
from index_items import CARD, clustered
from promises import PAGE, TOLD, written

from ae_search.errors import AeSearchError
from ae_search.index import BuildOptions
from ae_search.open_index import build_index

NEW = clustered(6, seed=3)

# Each promise that a guest may do without, asked for once.
ASKED = {
    "several latents": lambda index, folder: index.add(NEW.reshape(2, 3, 8), ["a", "b"]),
    "calibration": lambda index, folder: index.calibrate("null", {"mean": 0.5}),
    "rebuilding": lambda index, folder: rebuilt(index),
    "duplicates": lambda index, folder: index.duplicates(),
    "blocks of one moment": lambda index, folder: changed_while_read(index),
    "fields": lambda index, folder: build_index(index.place, CARD, BuildOptions(fields=("n",), replace=True)),
    "large items": lambda index, folder: index.add(NEW[:1], ["large"], metadata=[{"text": "x" * 100_000}]),
    "export": lambda index, folder: index.export(folder / "all.jsonl"),
}


# Who does without these does not refuse them: a reader may be behind, which no call can tell.
NOT_REFUSED = {"changes of other processes"}


def changed_while_read(index):
    blocks = index.blocks()
    index.remove(["key-19"])
    index.add(NEW[:1], ["key-19"])
    assert sum(len(items) for _, items in blocks) == 20


def rebuilt(index):
    with index.rebuilding(CARD) as writer:
        writer.add(NEW[:1], ["new"])


@pytest.mark.parametrize("promise", ASKED)
def test_a_promise_is_kept_or_refused(guest, make, promise, tmp_path):
    with guest.open(make(clustered(20))) as index:
        if promise not in guest.missing:
            ASKED[promise](index, tmp_path)
            return
        before = index.keys()
        with pytest.raises(AeSearchError):
            ASKED[promise](index, tmp_path)
        assert index.keys() == before
        assert len(index.search(np.ones(8), 20)[0]) == 20


def test_every_missing_promise_can_be_asked_for():
    for guest in GUESTS:
        assert guest.missing <= set(ASKED) | NOT_REFUSED, guest.name


def test_an_engine_that_the_place_does_not_know_is_refused(guest, make):
    with guest.open(make(clustered(20))) as index:
        before = index.info().effort
        with pytest.raises(AeSearchError):
            index.compact(engine="no such engine")
        with pytest.raises(AeSearchError), index.rebuilding(CARD, engine="no such engine") as writer:
            writer.add(NEW[:1], ["new"])
        assert len(index.keys()) == 20
        assert index.info().effort == before
        assert len(index.search(np.ones(8), 20)[0]) == 20


def test_the_documentation_says_what_holds_where():
    assert TOLD.keys() == set(ASKED) | NOT_REFUSED
    page = PAGE.read_text(encoding="utf-8")
    assert page == written(page), "run python tests/index_contract/promises.py"
