"""What is refused leaves the index as it was, whole and open to the next change."""

from dataclasses import replace
from functools import reduce

import numpy as np
import pytest
from index_items import CARD, clustered

from ae_search.contract import MAX_METADATA_BYTES, MAX_TEXT_BYTES
from ae_search.errors import ConfigurationError, ModelMismatchError

NEW = clustered(3, seed=29)


def with_value(value):
    rows = NEW.astype(np.float64)
    rows[1, 5] = value
    return rows


def nested(depth):
    return {"deep": reduce(lambda inner, _: [inner], range(depth), 1)}


class Unreadable:
    """No text, no bytes."""


# What is wrong with the arguments, the error, and what its text must say.
WRONG_ITEMS = {
    "NaN": ({"latents": with_value(np.nan)}, ValueError, r"finite.*{1}"),
    "infinite": ({"latents": with_value(-np.inf)}, ValueError, r"finite.*{1}"),
    "too large": ({"latents": with_value(1.1e7)}, ValueError, r"1e\+07.*{1}"),
    "beyond float32": ({"latents": with_value(1e300)}, ValueError, r"finite.*{1}"),
    "too short": ({"latents": NEW[:, :7]}, ValueError, r"\[n, 8\].*{0}"),
    "too long": ({"latents": np.ones((3, 9))}, ValueError, r"\[n, 8\].*{0}"),
    "four axes": ({"latents": np.ones((3, 1, 1, 8))}, ValueError, r"\[n, 8\].*{0}"),
    "no latents each": ({"latents": np.ones((3, 0, 8))}, ValueError, "1 to 64 latents.*0"),
    "many latents each": ({"latents": np.ones((3, 65, 8))}, ValueError, "1 to 64 latents.*65"),
    "fewer items of several latents": ({"latents": np.ones((2, 2, 8))}, ValueError, r"\[3, r, 8\].*\(2, 2, 8\)"),
    "several that are too short": ({"latents": np.ones((3, 2, 7))}, ValueError, r"\[3, r, 8\].*\(3, 2, 7\)"),
    "NaN in one of several": ({"latents": np.full((3, 2, 8), np.nan)}, ValueError, "finite.*{0}"),
    "fewer digests": ({"digests": ["x"]}, ValueError, "3, 3, 3, 3, 1"),
    "digest is bytes": ({"digests": [b"x", None, None]}, ValueError, "digest.*b'x'"),
    "digest is too long": ({"digests": ["x" * 129, None, None]}, ValueError, "1 to 128"),
    "digest with a space": ({"digests": ["a b", None, None]}, ValueError, "1 to 128"),
    "fewer latents": ({"latents": NEW[:2]}, ValueError, "2, 3"),
    "more latents": ({"latents": np.ones((4, 8))}, ValueError, "4, 3"),
    "fewer labels": ({"labels": ["x", "y"]}, ValueError, "3, 2, 3, 3, 3"),
    "more labels": ({"labels": ["x"] * 4}, ValueError, "3, 4, 3, 3, 3"),
    "fewer metadata": ({"metadata": [None]}, ValueError, "3, 3, 1, 3, 3"),
    "fewer thumbnails": ({"thumbnails": []}, ValueError, "3, 3, 3, 0, 3"),
    "label is a number": ({"labels": ["x", 3, None]}, TypeError, "3 of type int"),
    "label is bytes": ({"labels": ["x", b"y", None]}, TypeError, "b'y' of type bytes"),
    "NUL in a label": ({"labels": ["x", "a\0b", None]}, ConfigurationError, "NUL"),
    "surrogate in a label": ({"labels": ["x", "\ud800", None]}, ConfigurationError, "Unicode"),
    "metadata is a list": ({"metadata": [None, [1], None]}, ValueError, "{1}.*must be an object"),
    "metadata is JSON text": ({"metadata": [None, "{{}}", None]}, ValueError, "{1}.*must be an object"),
    "number as a name": ({"metadata": [None, {1: 1}, None]}, ValueError, "{1}.*must be an object"),
    "NaN in metadata": ({"metadata": [None, {"x": float("nan")}, None]}, ValueError, "{1}.*JSON"),
    "infinity in metadata": ({"metadata": [{"x": [float("inf")]}, None, None]}, ValueError, "{0}.*JSON"),
    "surrogate in metadata": ({"metadata": [None, None, {"x": "\udc80"}]}, ValueError, "{2}.*JSON"),
    "object in metadata": ({"metadata": [None, {"x": Unreadable()}, None]}, ValueError, "{1}.*JSON"),
    "bytes in metadata": ({"metadata": [None, {"x": b"y"}, None]}, ValueError, "{1}.*JSON"),
    "endless metadata": ({"metadata": [None, nested(100_000), None]}, ValueError, "{1}.*JSON"),
    "long label": ({"labels": ["ü" * (MAX_TEXT_BYTES // 2) + "x", None, None]}, ConfigurationError, "8192 bytes"),
    "large metadata": ({"metadata": [None, {"x": "y" * MAX_METADATA_BYTES}, None]}, ValueError, "{1}.*1048576 bytes"),
}


@pytest.fixture
def metric():
    """Nothing here depends on it."""
    return "angular"


@pytest.fixture
def opened(guest, small):
    place, oracle = small
    with guest.open(place) as index, guest.open(place) as reader:
        more = {"latents": clustered(5, seed=31), "keys": [f"added-{i}" for i in range(5)]}
        gone = ["added-4", "key-9"]
        index.add(**more)
        index.remove(gone)
        oracle.add(**more)
        oracle.remove(gone)
        yield index, reader, oracle


@pytest.fixture
def unchanged(guest, opened):
    """Hold that nothing changes, for any reader, and that the next change goes through."""
    index, reader, oracle = opened
    yield index
    oracle.check(reader)
    with guest.open(index.place) as fresh:
        oracle.check(fresh)
    good = {"latents": NEW, "keys": ["a", "b", "c"], "labels": ["x", None, ""]}
    index.add(**good)
    oracle.add(**good)
    oracle.check(reader)


@pytest.mark.parametrize("name", WRONG_ITEMS)
def test_additions_that_are_refused(unchanged, name):
    wrong, error, text = WRONG_ITEMS[name]
    with pytest.raises(error, match=text.format("'a'", "'b'", "'c'")):
        unchanged.add(**{"latents": NEW, "keys": ["a", "b", "c"], **wrong})


@pytest.mark.parametrize("name", WRONG_ITEMS)
def test_updates_that_are_refused(unchanged, name):
    wrong, error, text = WRONG_ITEMS[name]
    with pytest.raises(error, match=text.format("'key-1'", "'added-2'", "'key-3'")):
        unchanged.update(["key-1", "added-2", "key-3"], **wrong)


KEYS = {
    "twice": (["a", "b", "a"], ConfigurationError, "twice: 'a'"),
    "number": (["a", 3, "b"], TypeError, "3 of type int"),
    "None": (["a", None, "b"], TypeError, "None"),
    "bytes": (["a", b"b", "c"], TypeError, "b'b' of type bytes"),
    "NUL": (["a", "b\0", "c"], ConfigurationError, r"NUL; rename 'b\\x00'"),
    "surrogate": (["a", "b\udcff", "c"], ConfigurationError, r"Unicode text; rename 'b\\udcff'"),
    "long": (["a", "b", "ü" * (MAX_TEXT_BYTES // 2) + "c"], ConfigurationError, "8192 bytes as UTF-8.*8193"),
}


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("change", ["add", "update", "remove"])
def test_keys_that_are_refused(unchanged, name, change):
    keys, error, text = KEYS[name]
    with pytest.raises(error, match=text):
        {
            "add": lambda: unchanged.add(NEW, keys),
            "update": lambda: unchanged.update(keys, labels=["x", "y", "z"]),
            "remove": lambda: unchanged.remove(keys),
        }[change]()


@pytest.mark.parametrize("known", ["key-1", "added-1", "schlüssel/猫 7"])
def test_a_key_that_is_there_cannot_be_added(unchanged, known):
    with pytest.raises(ConfigurationError, match=f"has an item '{known}' already"):
        unchanged.add(NEW, ["a", known, "b"])


@pytest.mark.parametrize("missing", ["absent", "key-9", "added-4"])
@pytest.mark.parametrize("change", ["update", "remove"])
def test_a_key_that_is_not_there_cannot_be_changed(unchanged, missing, change):
    """Those that were removed are not there."""
    keys = ["key-1", missing, "added-1", "also absent"]
    with pytest.raises(ConfigurationError, match=f"no item '{missing}', and 1 more; nothing was changed"):
        unchanged.remove(keys) if change == "remove" else unchanged.update(keys, latents=np.ones((4, 8)))


@pytest.mark.parametrize("known", ["a", "key-1"])
def test_a_key_that_another_process_added_meanwhile(opened, known):
    index, reader, oracle = opened
    reader.add(NEW[:1], ["a"])
    oracle.add(NEW[:1], ["a"])
    with pytest.raises(ConfigurationError, match="already"):
        index.add(NEW[:2], ["b", known])
    oracle.check(index)


@pytest.mark.parametrize("thumbnail", [Unreadable(), "text", 5, 2.5])
def test_thumbnails_that_are_no_bytes(unchanged, thumbnail):
    with pytest.raises(TypeError, match="Thumbnails must be bytes"):
        unchanged.add(NEW, ["a", "b", "c"], thumbnails=[b"1", thumbnail, None])


def test_latents_of_a_model_that_was_replaced(guest, opened):
    index, _, _ = opened
    with guest.build(index.place, replace(CARD, fingerprint="cd" * 32, version=2), replace=True) as builder:
        builder.add(NEW, ["a", "b", "c"])
    with pytest.raises(ModelMismatchError, match="version 2"):
        index.add(NEW, ["d", "e", "f"])
    with pytest.raises(ModelMismatchError, match="version 2"):
        index.update(["a"], latents=NEW[:1])
    with pytest.raises(ModelMismatchError, match="version 2"):
        index.calibrate("null", {"mean": 0.5})
    with guest.open(index.place) as fresh:
        assert fresh.keys() == ["a", "b", "c"]
        # What is taken out needs no model.
        index.remove(["b"])
        assert fresh.keys() == ["a", "c"]


def test_a_refused_block_changes_nothing(guest, latents):
    place = guest.place()
    broken = latents[:3].copy()
    broken[1, 2] = np.nan
    with guest.build(place) as builder:
        builder.add(latents[:2], ["a", "b"], ["x", None], thumbnails=[b"1", None])
        with pytest.raises(ConfigurationError, match="'a'"):
            builder.add(latents[2:4], ["c", "a"])
        with pytest.raises(ConfigurationError, match="'d'"):
            builder.add(latents[2:5], ["c", "d", "d"])
        with pytest.raises(ValueError, match=r"finite.*'d'"):
            builder.add(broken, ["c", "d", "e"])
        with pytest.raises(ValueError, match=r"\[n, 8\].*'c'"):
            builder.add(latents[:2, :7], ["c", "d"])
        with pytest.raises(ValueError, match="2, 1"):
            builder.add(latents[:2], ["c"])
        with pytest.raises(ValueError, match="1, 0, 1, 1"):
            builder.add(latents[:1], ["c"], [])
        with pytest.raises(TypeError, match="int64"):
            builder.add(latents[:1], ["c"], np.array([3]))
        with pytest.raises(ConfigurationError, match="Unicode"):
            builder.add(latents[:1], ["c\udcff"])
        with pytest.raises(ConfigurationError, match="NUL"):
            builder.add(latents[:1], ["c\0"])
        with pytest.raises(ValueError, match=r"metadata of 'c'.*JSON"):
            builder.add(latents[:1], ["c"], metadata=[{"x": float("nan")}])
        builder.add(latents[2:3], ["c"], metadata=[{"x": 1}])
    with guest.open(place) as index:
        assert (index.keys(), index.labels()) == (["a", "b", "c"], ["x", None, None])
        assert index.search(latents[2], 3, exact=True)[0][0].key == "c"
        assert [metadata for _, _, metadata in index.items()] == [{}, {}, {"x": 1}]
        assert (index.thumbnail("a"), index.thumbnail("c")) == (b"1", None)


def test_a_block_refused_for_its_thumbnails_changes_nothing(guest, latents):
    place = guest.place()
    with guest.build(place) as builder:
        builder.add(latents[:1], ["a"])
        with pytest.raises(TypeError, match="Thumbnails must be bytes"):
            builder.add(latents[1:3], ["b", "c"], thumbnails=[None, Unreadable()])
        builder.add(latents[3:4], ["d"])
    with guest.open(place) as index:
        assert index.keys() == ["a", "d"]
        assert "b" not in index
