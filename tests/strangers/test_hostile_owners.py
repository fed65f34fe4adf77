"""Forged indexes whose items have several latents: refused at open, before a search could go astray."""

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from bounded import run_bounded
from forests import build_index, copied, sign

from ae_search.errors import AeSearchError, IndexDamagedError
from ae_search.index import LatentIndex
from ae_search.index.items.changes import CHANGES
from ae_search.index.items.owners import OWNERS
from ae_search.open_index import verify_index

ITEMS, EACH = 200, 3
LATENTS = ITEMS * EACH
PROBE = Path(__file__).with_name("open_and_search.py")
# Python, NumPy and Annoy take about 60 MiB.
MIB = 300


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return build_index(tmp_path_factory.mktemp("template") / "index", items=ITEMS, each=EACH)


@pytest.fixture
def generation(template, tmp_path):
    return copied(template, tmp_path / "index")


def owners(generation, change):
    """Write other owners, signed; `change` alters them in place or returns others."""
    numbers = np.fromfile(generation / OWNERS, "<u4")
    changed = change(numbers)
    (numbers if changed is None else changed).astype("<u4").tofile(generation / OWNERS)
    sign(generation)


def put(at, value):
    def change(numbers):
        numbers[at] = value

    return change


def take_one_over(numbers):
    """One item has four latents, the next one two."""
    numbers[EACH] = 0


def leave_one_out(numbers):
    numbers[numbers == 7] = 8


# What the owners are, all of it signed.
FORGED = {
    "cut short by one": lambda numbers: numbers[:-1],
    "cut short by an item": lambda numbers: numbers[:-EACH],
    "longer by one": lambda numbers: np.append(numbers, ITEMS - 1),
    "empty": lambda numbers: numbers[:0],
    "backwards": lambda numbers: numbers[::-1],
    "shuffled": lambda numbers: np.random.default_rng(1).permutation(numbers),
    "two that are swapped": lambda numbers: put([EACH - 1, EACH], numbers[[EACH, EACH - 1]])(numbers),
    "all of the first item": lambda numbers: np.zeros_like(numbers),
    "all of the last item": lambda numbers: np.full_like(numbers, ITEMS - 1),
    "begins with the second item": lambda numbers: numbers + 1,
    "the first item has none": put(slice(0, EACH), 1),
    "an item has none": leave_one_out,
    "the last item has none": put(slice(-EACH, None), ITEMS - 2),
    "an item beyond the last": put(-1, ITEMS),
    "the largest number": put(-1, 2**32 - 1),
    "the largest number in the middle": put(50, 2**32 - 1),
    "the sign bit": put(slice(300, None), 2**31),
    "an item has one more than there may be": take_one_over,
}

MANIFESTS = {
    "one latent each": {"most_latents": 1},
    "one latent each, and as many items": {"most_latents": 1, "latents": ITEMS},
    "one latent each, of as many items as latents": {"most_latents": 1, "items": LATENTS},
    "one more than any has": {"most_latents": EACH + 1},
    "one fewer than they have": {"most_latents": EACH - 1},
    "as many as there may be": {"most_latents": 64},
    "more than there may be": {"most_latents": 65},
    "none": {"most_latents": 0},
    "no number": {"most_latents": True},
    "one latent more": {"latents": LATENTS + 1},
    "one latent fewer": {"latents": LATENTS - 1},
    "as many latents as items": {"latents": ITEMS},
    "fewer latents than items": {"latents": ITEMS - 1},
    "no latents": {"latents": 0},
    "very many latents": {"latents": 2**31 - 1, "most_latents": 64, "items": 2**25},
    "more latents than can be counted": {"latents": 2**40},
    "one item fewer": {"items": ITEMS - 1},
    "one item more": {"items": ITEMS + 1},
    "no items": {"items": 0, "latents": 0, "effort": 1},
    "no items of several latents": {"items": 0, "latents": 0, "most_latents": 2, "effort": 1},
    "latents of no items": {"items": 0, "effort": 1},
}


def refused(generation):
    """Hold that an index is refused, again and again, and that `verify` tells a fault and ends."""
    for _ in range(2):
        with pytest.raises(IndexDamagedError):
            LatentIndex.open(generation.parent)
    checks = verify_index(generation.parent)
    assert [check.fault for check in checks if check.fault]


@pytest.mark.parametrize("name", FORGED)
def test_forged_owners(generation, name):
    owners(generation, FORGED[name])
    refused(generation)


@pytest.mark.parametrize("name", MANIFESTS)
def test_forged_manifests(generation, name):
    sign(generation, **MANIFESTS[name])
    refused(generation)


def test_no_items_and_a_file_of_no_owners(generation):
    """An empty file cannot be mapped."""
    for name in (OWNERS, "forest.ann"):
        (generation / name).write_bytes(b"")
    (generation / "names.bin").write_bytes(bytes(8))
    sign(generation, items=0, latents=0, most_latents=2, effort=1)
    refused(generation)


def test_owners_that_the_manifest_does_not_describe(generation):
    raw = json.loads((generation / "manifest.json").read_text())
    del raw["files"][OWNERS]
    sign(generation, files=raw["files"])
    refused(generation)


@pytest.mark.parametrize("kind", ["link", "link to an endless device", "pipe", "folder", "missing"])
def test_owners_that_are_no_file_of_the_index(generation, tmp_path, victim, kind):
    place, content = generation / OWNERS, (generation / OWNERS).read_bytes()
    place.unlink()
    if kind == "link":
        (tmp_path / "elsewhere").write_bytes(content)
        place.symlink_to(tmp_path / "elsewhere")
    elif kind == "link to an endless device":
        place.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    ended = run_bounded(["python", PROBE, generation.parent], folder=tmp_path, timeout_s=60)
    assert (ended.code, ended.stdout[:7], ended.stderr) == (0, "damaged", "")
    assert OWNERS in ended.stdout
    assert ended.peak_mib < MIB


@pytest.mark.parametrize("name", ["very many latents", "the largest number in the middle", "all of the first item"])
def test_they_are_refused_with_little_memory_and_time(generation, tmp_path, victim, name):
    if name in FORGED:
        owners(generation, FORGED[name])
    else:
        sign(generation, **MANIFESTS[name])
    ended = run_bounded(["python", PROBE, generation.parent], folder=tmp_path, timeout_s=60)
    assert (ended.code, ended.stdout[:7], ended.stderr) == (0, "damaged", "")
    assert ended.peak_mib < MIB


def test_the_index_as_it_was_built_answers(generation, tmp_path, victim):
    """Else the tests above could not fail."""
    owners(generation, lambda numbers: None)
    ended = run_bounded(["python", PROBE, generation.parent], folder=tmp_path, timeout_s=60)
    assert (ended.code, ended.stdout) == (0, f"searched {ITEMS}\n"), ended.stderr
    assert [check.fault for check in verify_index(generation.parent) if check.fault] == []


ADD = "INSERT INTO added (key, latents, digest) VALUES ('new', {latents}, {digest})"
CALIBRATE = "INSERT INTO calibration VALUES ('null', {})"
GOOD = "zeroblob(32)"
NAN = "0000c07f"
CHANGED = {
    "no latents": ADD.format(latents="x''", digest="NULL"),
    "half a float": ADD.format(latents="zeroblob(33)", digest="NULL"),
    "one latent and a half": ADD.format(latents="zeroblob(48)", digest="NULL"),
    "more latents than there may be": ADD.format(latents="zeroblob(32 * 65)", digest="NULL"),
    "very many latents": ADD.format(latents="zeroblob(32 * 1000000)", digest="NULL"),
    "latents as text": ADD.format(latents="'" + "x" * 64 + "'", digest="NULL"),
    "latents as a number": ADD.format(latents="5", digest="NULL"),
    "NaN in the second": ADD.format(latents=f"x'{'00' * 32}{NAN * 8}'", digest="NULL"),
    "infinity in the last": ADD.format(latents=f"x'{'00' * 32 * 63}{'00' * 28}0000807f'", digest="NULL"),
    "a large value": ADD.format(latents=f"x'{'ffff7f7f' * 16}'", digest="NULL"),
    "a digest of bytes": ADD.format(latents=GOOD, digest="x'61'"),
    "a digest that is no Unicode": ADD.format(latents=GOOD, digest="CAST(x'ff' AS TEXT)"),
    "an empty digest": ADD.format(latents=GOOD, digest="''"),
    "a long digest": ADD.format(latents=GOOD, digest="'" + "x" * 129 + "'"),
    "a digest with a line end": ADD.format(latents=GOOD, digest="'a' || char(10)"),
    "a digest with an escape": ADD.format(latents=GOOD, digest="char(27) || '[2J'"),
    "calibration of bytes": CALIBRATE.format("x'7b7d'"),
    "calibration without a name": "INSERT INTO calibration VALUES (NULL, '{}')",
    "calibration with a name of bytes": "INSERT INTO calibration VALUES (x'61', '{}')",
    "calibration with a name that none has": "INSERT INTO calibration VALUES ('../x', '{}')",
    "calibration with an endless name": "INSERT INTO calibration VALUES (hex(zeroblob(1000)), '{}')",
    "calibration that is no JSON": CALIBRATE.format("'{'"),
    "calibration that is empty": CALIBRATE.format("''"),
    "calibration that is a list": CALIBRATE.format("'[1]'"),
    "calibration with NaN": CALIBRATE.format("'{\"x\": NaN}'"),
    "calibration with NUL": CALIBRATE.format('\'{"x": "\\u0000"}\''),
    "calibration that is no Unicode": CALIBRATE.format("CAST(x'7bff7d' AS TEXT)"),
    "calibration as deep as can be": CALIBRATE.format("'" + '{"x":' * 5000 + "1" + "}" * 5000 + "'"),
    "calibration that is large": CALIBRATE.format("'{\"x\": \"' || hex(zeroblob(600000)) || '\"}'"),
    "a source of bytes": "INSERT INTO sources VALUES (x'61')",
    "a source that is none": "INSERT INTO sources VALUES (NULL)",
    "no latents column": "ALTER TABLE added RENAME COLUMN latents TO latent",
    "no digest column": "ALTER TABLE added DROP COLUMN digest",
    "no calibration": "DROP TABLE calibration",
}


@pytest.mark.parametrize("name", CHANGED)
def test_changes_that_no_writer_wrote(generation, name):
    with closing(sqlite3.connect(generation / CHANGES)) as connection, connection:
        connection.execute(CHANGED[name])
    refused(generation)


@pytest.mark.parametrize("name", CHANGED)
def test_changes_that_come_while_it_is_open(generation, name):
    """A user who may write in a shared folder can: open readers refuse them too, and no writer folds them in."""
    with LatentIndex.open(generation.parent) as index:
        with closing(sqlite3.connect(generation / CHANGES)) as connection, connection:
            connection.execute(CHANGED[name])
        (generation.parent / ".epoch").write_bytes(bytes([255] * 8))
        for use in (
            lambda: (index.search(np.ones(8)), index.keys(), index.calibration(), index.info()),
            lambda: index.add(np.ones((1, 8)), ["mine"]),
            index.compact,
        ):
            try:
                use()
            except AeSearchError:
                continue
        assert (generation.parent / "CURRENT").read_text().strip() == generation.name
