"""What was measured about the latents is kept beside them, for as long as they are there."""

from dataclasses import replace

import pytest
from guests import child
from index_items import CARD, clustered

from ae_search.contract import MAX_METADATA_BYTES

pytestmark = pytest.mark.needs("calibration")

NEW = clustered(20, seed=87)
VALUES = {"mean": 0.25, "ü": ["🙂", None, {"deep": [1, 2]}], "n": 2**53, "is": True}


def test_it_is_stored_replaced_and_seen_at_once(pair, both):
    assert pair[1].calibration() == {}
    both("calibrate", name="null", values=VALUES)
    both("calibrate", name="cut-off_2.5", values={})
    both("calibrate", name="null", values={"mean": 0.5})
    both("calibrate", name="n" * 64, values={"x": 1})
    assert pair[1].calibration() == {"null": {"mean": 0.5}, "cut-off_2.5": {}, "n" * 64: {"x": 1}}


@pytest.mark.needs("changes of other processes")
def test_another_process_sees_it(guest, small):
    place, _ = small
    with guest.open(place) as index, child(place) as ask:
        index.calibrate("null", VALUES)
        assert ask("calibration") == {"null": VALUES}
        assert ask("calibrate", "null", {"mean": 1}) is None
        assert index.calibration() == {"null": {"mean": 1}}


def test_other_changes_and_compacting_keep_it(guest, pair, both):
    both("calibrate", name="null", values=VALUES)
    both("add", latents=NEW[:2], keys=["a", "b"])
    both("update", keys=["a", "key-1"], labels=["x", "y"])
    both("remove", keys=["b"])
    for _ in range(2):
        pair[0].compact()
        pair[2].check(pair[1])
        pair[0].tune(0.9)
        pair[2].check(pair[1])
        both("calibrate", name="more", values={"x": 1})
        both("remove", keys=[pair[1].keys()[0]])
    with guest.open(pair[0].place) as fresh:
        pair[2].check(fresh)


@pytest.mark.needs("rebuilding")
@pytest.mark.parametrize("fingerprint", ["cd" * 32, CARD.fingerprint])
def test_rebuilding_drops_it(pair, fingerprint):
    writer, reader, _ = pair
    writer.calibrate("null", VALUES)
    card = replace(CARD, metric=writer.metric, fingerprint=fingerprint)
    with writer.rebuilding(card) as again:
        assert reader.calibration() == {"null": VALUES}
        for latents, items in reader.blocks():
            again.add_items(latents, items)
    assert writer.calibration() == reader.calibration() == {}


@pytest.mark.needs("rebuilding")
def test_a_rebuild_that_fails_keeps_it(pair, both):
    writer, reader, oracle = pair
    both("calibrate", name="null", values=VALUES)
    with pytest.raises(RuntimeError), writer.rebuilding(replace(CARD, metric=writer.metric)):
        raise RuntimeError
    oracle.check(reader)


@pytest.mark.parametrize("name", ["", "a b", "ü", "a/b", "a\0", "a\n", "n" * 65, 5, None, b"null"], ids=repr)
def test_names_that_are_refused(pair, name):
    writer, reader, oracle = pair
    with pytest.raises(ValueError, match="1 to 64"):
        writer.calibrate(name, {"x": 1})
    oracle.check(reader)


@pytest.mark.parametrize(
    "values",
    [
        None,
        [1],
        "{}",
        5,
        {1: 2},
        {"x": float("nan")},
        {"x": b"bytes"},
        {"x": "\ud800"},
        {"x": "a\0b"},
        {"x": "y" * MAX_METADATA_BYTES},
    ],
    ids=lambda values: f"{values!r:.20}",
)
def test_values_that_are_refused(pair, both, values):
    writer, reader, oracle = pair
    both("calibrate", name="null", values={"old": 1})
    with pytest.raises(ValueError, match="null"):
        writer.calibrate("null", values)
    oracle.check(reader)
    both("calibrate", name="null", values={"new": 1})


def test_what_comes_back_is_the_callers_own(pair, both):
    both("calibrate", name="null", values=VALUES)
    received = pair[1].calibration()
    received["null"]["mean"] = 9
    received["other"] = {}
    pair[2].check(pair[1])
