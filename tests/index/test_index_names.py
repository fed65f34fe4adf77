"""Names of many items read together: whatever they have, and whichever of them is damaged."""

import itertools

import pytest

from ae_search.errors import IndexDamagedError
from ae_search.index.items.names import Names, NamesWriter

TEXTS = ("", "a", "猫 ñ", "x" * 300)
NAMES = [
    *itertools.product(TEXTS, (None, *TEXTS), (None, '{"a": 1}')),
]
LABELLED = [name for name in NAMES if name[1] is not None]
WITHOUT = [name for name in NAMES if name[1] is None]


def written(path, names):
    with NamesWriter(path) as writer:
        writer.add(names)
    return Names(path, len(names))


@pytest.mark.parametrize("names", [NAMES, LABELLED, WITHOUT], ids=["mixed", "all with labels", "none with a label"])
def test_names_come_back_as_they_were(tmp_path, names):
    read = written(tmp_path / "names.bin", names)
    read.check()
    ids = [*range(len(names)), 0, 3, 3]
    assert read.of(ids) == [names[item] for item in ids]
    assert [read.of([item]) for item in range(len(names))] == [[name] for name in names]
    assert read.of([]) == []
    assert [list(column) for column in read.columns(ids)] == [
        list(column) for column in zip(*(names[item] for item in ids), strict=True)
    ]


@pytest.mark.parametrize("others", [LABELLED, WITHOUT], ids=["labels", "no labels"])
@pytest.mark.parametrize("spoil", [lambda old: old.replace(b"\0", b"-"), lambda old: b"\xff" + old[1:]])
def test_a_damaged_record_is_named(tmp_path, others, spoil):
    names = [*others, ("the one", "label", None)]
    path = tmp_path / "names.bin"
    written(path, names)
    path.write_bytes(path.read_bytes().replace(b"the one\0\0label", spoil(b"the one\0\0label")))
    read = Names(path, len(names))
    assert read.of(range(len(others))) == others
    for ids in (range(len(names)), [len(others)]):
        with pytest.raises(IndexDamagedError, match=f"item {len(others)} "):
            read.of(ids)
