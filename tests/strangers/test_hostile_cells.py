"""Cells that would lead faiss astray are refused before faiss sees them, though every digest is right."""

from pathlib import Path

import numpy as np
import pytest
from bounded import run_bounded
from forests import DIM, copied, sign

from ae_search.contract import ModelCard, Resources
from ae_search.errors import IndexDamagedError
from ae_search.index import BuildOptions, FaissCodesOptions, FaissOptions, IndexBuilder, LatentIndex

ITEMS, CELLS = 600, 75
PROBE = Path(__file__).with_name("open_and_search.py")
# Python, NumPy and faiss take about 130 MiB.
MIB = 400


KINDS = {"angular": FaissOptions(), "euclidean": FaissOptions(), "angular, codes": FaissCodesOptions()}


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def template(tmp_path_factory, kind):
    metric = kind.partition(",")[0]
    path = tmp_path_factory.mktemp("template") / "index"
    rows = np.random.default_rng(3).normal(size=(ITEMS, DIM)).astype(np.float32)
    card = ModelCard("tiny", 1, "ab" * 32, image_shape=(28, 28, 1), latent_dim=DIM, metric=metric)
    with IndexBuilder(path, card, BuildOptions(KINDS[kind], resources=Resources(1))) as builder:
        builder.add(rows, [f"key-{at}" for at in range(ITEMS)], ["a label"] * ITEMS)
    (generation,) = path.glob("generation-*")
    return generation


@pytest.fixture
def generation(template, tmp_path):
    return copied(template, tmp_path / "index")


@pytest.fixture
def file(generation, kind):
    return File(generation, coded="codes" in kind)


class File:
    """The parts of a file of cells, to be changed at will."""

    def __init__(self, generation, *, coded):
        self.coded, self._code = coded, DIM if coded else 4 * DIM
        self._path = generation / "cells.bin"
        self.bytes = bytearray(self._path.read_bytes())
        self.sizes = np.frombuffer(self.bytes, "<i8", CELLS)
        self._rooms = self.sizes + -self.sizes % (8 if coded else 2)
        self.starts = 8 * CELLS + np.concatenate([[0], np.cumsum(self._rooms * (self._code + 8))])
        self.floats = np.frombuffer(self.bytes, "<f4", offset=int(self.starts[-1])).reshape(-1, DIM)

    def numbers(self, cell):
        size, start = int(self.sizes[cell]), int(self.starts[cell])
        return np.frombuffer(self.bytes, "<i8", size, start + int(self._rooms[cell]) * self._code)

    def rows(self, cell):
        kind = "|u1" if self.coded else "<f4"
        return np.frombuffer(self.bytes, kind, int(self.sizes[cell]) * DIM, int(self.starts[cell])).reshape(-1, DIM)

    @property
    def fullest(self):
        return int(np.argmax(self.sizes))

    def write(self, content=None):
        self._path.write_bytes(self.bytes if content is None else content)


def test_the_parts_are_where_this_test_says(generation, file):
    with LatentIndex.open(generation.parent) as index:
        np.testing.assert_array_equal(index.latents([f"key-{at}" for at in range(ITEMS)]), file.floats[:ITEMS])
    assert sorted(np.concatenate([file.numbers(cell) for cell in range(CELLS)])) == list(range(ITEMS))


def sizes_to(change):
    def attack(file):
        change(file.sizes)

    return attack


def one_more_than_there_is(sizes):
    sizes[0] += 2


def moved_from_one_cell_to_another(sizes):
    sizes[[0, 1]] += (1, -1)


def below_zero(sizes):
    sizes[0], sizes[1] = -2, sizes[1] + sizes[0] + 2


def that_wrap_around(sizes):
    sizes[:4] = 2**62


def that_add_up_by_wrapping(sizes):
    sizes[:3] += np.array([2**63 - 1, 2**63 - 1, 2])


def far_too_many(sizes):
    sizes[0] = 2**40


def number(value):
    def attack(file):
        file.numbers(file.fullest)[0] = value

    return attack


def a_number_twice(file):
    numbers = file.numbers(file.fullest)
    numbers[1] = numbers[0]


def numbers_in_two_cells(file):
    first, second = np.argsort(file.sizes)[-2:]
    file.numbers(first)[:] = np.sort(file.numbers(second)[: file.sizes[first]])


def numbers_out_of_order(file):
    numbers = file.numbers(file.fullest)
    numbers[:] = numbers[::-1].copy()


def floats_of(place, value):
    def attack(file):
        place(file)[3] = value

    return attack


PLACES = {
    "a latent": lambda file: file.floats[70],
    "a centre": lambda file: file.floats[ITEMS + 5],
    "the shift": lambda file: file.floats[-1],
    "where a range begins": lambda file: file.floats[-3],
    "how wide a range is": lambda file: file.floats[-2],
    "a prepared latent": lambda file: file.rows(file.fullest)[-1],
}
ATTACKS = {
    **{
        f"sizes {change.__name__}": sizes_to(change)
        for change in (
            one_more_than_there_is,
            moved_from_one_cell_to_another,
            below_zero,
            that_wrap_around,
            that_add_up_by_wrapping,
            far_too_many,
        )
    },
    **{f"number {value}": number(value) for value in (-1, ITEMS, 2**40, -(2**63), 2**63 - 1)},
    **{f"{place} is {value}": floats_of(PLACES[place], value) for place in PLACES for value in (np.nan, np.inf, 1e30)},
    **{attack.__name__: attack for attack in (a_number_twice, numbers_in_two_cells, numbers_out_of_order)},
}
# These change the size of the buffer, which views of it would keep from happening.
SIZES = {
    "cut": lambda content: content[: -4 * DIM],
    "cut by a byte": lambda content: content[:-1],
    "longer": lambda content: content + bytes(4 * DIM),
    "nothing but sizes": lambda content: content[: 8 * CELLS],
    "empty": lambda content: b"",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_it_is_refused_at_open(generation, file, name):
    if (file.coded and "prepared" in name) or (not file.coded and "range" in name):
        pytest.skip("its cells have none")
    ATTACKS[name](file)
    file.write()
    sign(generation)
    with pytest.raises(IndexDamagedError, match=r"cells\.bin is damaged"):
        LatentIndex.open(generation.parent)


@pytest.mark.parametrize("name", SIZES)
def test_another_size_is_refused_at_open(generation, name):
    file = generation / "cells.bin"
    file.write_bytes(SIZES[name](file.read_bytes()))
    sign(generation)
    with pytest.raises(IndexDamagedError, match=r"cells\.bin is damaged"):
        LatentIndex.open(generation.parent)


@pytest.mark.parametrize("position", [0, 8 * CELLS + 3, -1, -4000])
def test_a_flipped_bit_is_refused_by_its_digest(generation, position):
    file = generation / "cells.bin"
    content = bytearray(file.read_bytes())
    content[position] ^= 0x10
    file.write_bytes(content)
    with pytest.raises(IndexDamagedError, match=r"cells\.bin is damaged.*sha256"):
        LatentIndex.open(generation.parent)


@pytest.mark.parametrize(
    "changes",
    [
        {"engine": {"name": "faiss", "n_cells": 74}},
        {"engine": {"name": "faiss", "n_cells": 10**9}},
        {"engine": {"name": "faiss", "n_cells": "many"}},
        {"engine": {"name": "annoy", "n_trees": 4}},
        {"engine": {"name": "the other", "n_cells": 0}},
        {"latent_dim": 9},
        {"latent_dim": 2**20},
        {"effort": 76},
        {"effort": 2**31 - 1},
        {"items": 599, "latents": 599},
        {"items": 2**31 - 1, "latents": 2**31 - 1},
    ],
    ids=str,
)
def test_a_manifest_that_says_otherwise_is_refused(generation, file, changes):
    if changes.get("engine", {}).get("name") == "the other":
        changes = {"engine": {"name": "faiss" if file.coded else "faiss-8bit", "n_cells": 0}}
    elif file.coded and changes.get("engine", {}).get("name") == "faiss":
        changes = {"engine": {**changes["engine"], "name": "faiss-8bit"}}
    sign(generation, **changes)
    with pytest.raises(IndexDamagedError):
        LatentIndex.open(generation.parent)


@pytest.mark.parametrize("name", ["sizes far_too_many", "number 1099511627776", "a centre is nan"])
def test_it_is_refused_with_little_memory_and_time(generation, file, tmp_path, victim, name):
    ATTACKS[name](file)
    file.write()
    sign(generation)
    ended = run_bounded(["python", PROBE, generation.parent], folder=tmp_path, timeout_s=60)
    assert (ended.code, ended.stdout[:7], ended.stderr) == (0, "damaged", "")
    assert ended.peak_mib < MIB


def test_the_cells_as_they_were_built_answer(generation, tmp_path, victim):
    sign(generation)
    ended = run_bounded(["python", PROBE, generation.parent], folder=tmp_path, timeout_s=60)
    assert (ended.code, ended.stdout) == (0, f"searched {ITEMS}\n"), ended.stderr
    assert ended.peak_mib < MIB


def test_all_in_one_cell_is_slow_and_nothing_else(generation, file, tmp_path, victim):
    """Nothing is wrong with it but that faiss does not sort so."""
    order = np.concatenate([file.numbers(cell) for cell in range(CELLS)])
    rows = np.concatenate([file.rows(cell) for cell in range(CELLS)])[np.argsort(order)]
    sizes = np.zeros(CELLS, "<i8")
    sizes[7] = ITEMS
    tail = file.floats.tobytes()
    file.write(sizes.tobytes() + rows.tobytes() + np.arange(ITEMS, dtype="<i8").tobytes() + tail)
    sign(generation)
    ended = run_bounded(["python", PROBE, generation.parent], folder=tmp_path, timeout_s=60)
    assert (ended.code, ended.stdout) == (0, f"searched {ITEMS}\n"), ended.stderr
