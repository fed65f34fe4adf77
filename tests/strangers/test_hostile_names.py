"""A names.bin that an enemy wrote, re-signed: refused at open where it cannot be read, else one line when it is met."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from bounded import run_bounded
from forests import build_index, copied, sign

from ae_search.contract import MAX_METADATA_BYTES, MAX_TEXT_BYTES, metadata_of
from ae_search.errors import ConfigurationError, IndexDamagedError
from ae_search.index import LatentIndex

ITEMS = 300
# Python, NumPy and Annoy take about 60 MiB.
MIB = 300


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return build_index(tmp_path_factory.mktemp("template") / "index", items=ITEMS)


@pytest.fixture
def generation(template, tmp_path):
    return copied(template, tmp_path / "index")


def write(generation, records, offsets=None, *, more=b""):
    """Write records and where they lie."""
    flat = b"".join(records)
    if offsets is None:
        offsets = np.cumsum([0, *map(len, records)])
    padding = bytes(-len(flat) % 8)
    table = b"".join(struct.pack("<Q", int(at) % 2**64) for at in offsets)
    (generation / "names.bin").write_bytes(flat + padding + more + table)
    sign(generation)


def good_records():
    return [b'key-%d\0{"number":%d}\0a label' % (at, at) for at in range(ITEMS)]


def test_the_file_as_it_was_built_passes(generation):
    before = (generation / "names.bin").read_bytes()
    write(generation, good_records())
    assert (generation / "names.bin").read_bytes() == before
    with LatentIndex.open(generation.parent) as index:
        assert index.details(["key-7"]) == [("a label", {"number": 7})]


RECORDS = good_records()
ENDS = np.cumsum([0, *map(len, RECORDS)])


def changed(at, value):
    offsets = ENDS.copy()
    offsets[at] = value
    return offsets


OFFSETS = {
    "all from the first byte": np.append(np.zeros(ITEMS, int), ENDS[-1]),
    "all of the whole file": np.where(np.arange(ITEMS + 1) % 2, ENDS[-1], 0),
    "overlapping": changed(7, ENDS[5]),
    "descending": ENDS[::-1],
    "an empty record": changed(7, ENDS[8]),
    "beginning later": changed(0, 1),
    "beyond the file": changed(ITEMS, ENDS[-1] + 10_000),
    "into the offsets": changed(ITEMS, ENDS[-1] + 16),
    "ending early": changed(ITEMS, ENDS[-1] - 10),
    "near 2**63": changed(7, 2**63 - 1),
    "near 2**64": changed(7, -1),
}


@pytest.mark.parametrize("name", OFFSETS)
def test_records_that_do_not_follow_each_other_are_refused_at_open(generation, name):
    write(generation, RECORDS, OFFSETS[name])
    with pytest.raises(IndexDamagedError, match=r"names\.bin is damaged"):
        LatentIndex.open(generation.parent)


def test_bytes_between_records_and_offsets_are_refused(generation):
    write(generation, RECORDS, more=bytes(8))
    with pytest.raises(IndexDamagedError, match=r"names\.bin is damaged"):
        LatentIndex.open(generation.parent)


def test_a_record_longer_than_any_item_is_refused(generation):
    records = [*RECORDS[:5], b"k" * (2 * MAX_TEXT_BYTES + MAX_METADATA_BYTES + 3), *RECORDS[6:]]
    write(generation, records)
    with pytest.raises(IndexDamagedError, match=r"names\.bin is damaged.*item 5"):
        LatentIndex.open(generation.parent)


def test_records_that_share_their_bytes_take_no_memory(generation, tmp_path, victim):
    """4 MB that would unfold into 300 keys of as many bytes."""
    records = [*RECORDS[:-1], RECORDS[-1] + b"l" * (4 << 20)]
    whole = sum(map(len, records))
    write(generation, records, np.append(np.arange(ITEMS), whole))
    for arguments in (["verify"], ["export", tmp_path / "all.jsonl"]):
        ended = run_bounded(["ae-search", "index", *arguments, "--index", generation.parent], folder=tmp_path)
        assert ended.code == 1
        assert "names.bin is damaged" in ended.stdout + ended.stderr
        assert "Traceback" not in ended.stderr
        assert ended.peak_mib < MIB


@pytest.mark.parametrize("record", [b"key-5", b"key-\xff5\0", b"\xed\xa0\x80\0"])
def test_a_record_that_is_none_is_damage_when_it_is_met(generation, record):
    write(generation, [*RECORDS[:5], record, *RECORDS[6:]])
    with LatentIndex.open(generation.parent) as index:
        assert index.details(["key-4"]) == [("a label", {"number": 4})]
        for meet in (lambda: index.details(["key-5"]), lambda: list(index.items()), index.keys, index.labels):
            with pytest.raises(IndexDamagedError, match=r"names\.bin is damaged at item 5"):
                meet()


JSON = ["{", '{"a":}', "[1]", "7", '"text"', "nul", "[" * 100_000, '{"a":' + "9" * 5000 + "}"]


@pytest.mark.parametrize("text", JSON, ids=range(len(JSON)))
def test_metadata_that_are_no_json_object_are_damage_when_they_are_met(generation, text):
    write(generation, [*RECORDS[:5], b"key-5\0" + text.encode(), *RECORDS[6:]])
    with LatentIndex.open(generation.parent) as index:
        (found,) = index.search(index.latents(["key-5"]), 1)
        assert found[0].key == "key-5"
        for meet in (lambda: found[0].metadata, lambda: index.details(["key-5"]), lambda: list(index.items())):
            with pytest.raises(IndexDamagedError, match="metadata that are no JSON"):
                meet()


def test_no_metadata_are_an_empty_object():
    assert metadata_of(None) == metadata_of("") == metadata_of("{}") == {}


@pytest.mark.parametrize("places", [(5, 6), (5, ITEMS - 1)])
def test_a_key_twice_is_damage_for_who_meets_it(generation, tmp_path, places):
    first, second = places
    twice = RECORDS[first].replace(b"%d}" % first, b"%d}" % second)
    write(generation, [*RECORDS[:second], twice, *RECORDS[second + 1 :]])
    with LatentIndex.open(generation.parent) as index:
        index.remove(["key-0"])
    for command in ("verify", "compact"):
        ended = run_bounded(["ae-search", "index", command, "--index", generation.parent], folder=tmp_path)
        assert ended.code == 1
        assert f"'key-{first}'" in ended.stdout + ended.stderr
        assert "Traceback" not in ended.stderr
    with LatentIndex.open(generation.parent) as index, pytest.raises(IndexDamagedError, match=f"twice: 'key-{first}'"):
        index.compact()


@pytest.mark.parametrize("what", ["keys", "labels"])
@pytest.mark.parametrize("letter", ["a", "ä", "猫"])
def test_keys_and_labels_are_bounded_where_they_come_in(generation, what, letter):
    longest = letter * (MAX_TEXT_BYTES // len(letter.encode()))
    with LatentIndex.open(generation.parent) as index:
        row = index.latents(["key-1"])
        given = {"keys": ["new"], "labels": ["new"]}
        with pytest.raises(ConfigurationError, match="may have 8192 bytes as UTF-8; shorten"):
            index.add(row, **given | {what: [longest + letter]})
        assert len(index) == ITEMS
        index.add(row, **given | {what: [longest]})
        index.compact()
    with LatentIndex.open(generation.parent) as index:
        (found,) = index.search(row, 2)
        assert longest in {getattr(one, what[:-1]) for one in found}


def test_a_key_of_a_file_that_is_too_long_is_refused_with_a_sentence(tmp_path):
    np.save(tmp_path / "all.npy", np.ones((1, 4), np.float32))
    Path(tmp_path / "keys.txt").write_text("k" * 8193 + "\n")
    with pytest.raises(ConfigurationError, match="may have 8192 bytes"):
        LatentIndex.import_(tmp_path / "all.npy", tmp_path / "index", keys=tmp_path / "keys.txt")


def test_what_is_exported_before_the_damage_is_thrown_away(generation, tmp_path):
    write(generation, [*RECORDS[:5], b"key-5", *RECORDS[6:]])
    with LatentIndex.open(generation.parent) as index, pytest.raises(IndexDamagedError):
        index.export(tmp_path / "all.jsonl")
    assert not list(tmp_path.glob("*.jsonl"))
    assert json.loads((generation / "manifest.json").read_text())["items"] == ITEMS
