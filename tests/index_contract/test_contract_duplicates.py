"""Groups of items that are almost the same, against all pairs in NumPy."""

from dataclasses import replace

import numpy as np
import pytest
from index_items import CARD, clustered

from ae_search.calibration import NAME, measure

pytestmark = pytest.mark.needs("duplicates")


def components(latents, similarity):
    """Return the connected groups of at least two rows, by all pairs."""
    units = latents.astype(np.float64)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    linked = units @ units.T >= similarity
    groups, seen = [], set()
    for start in range(len(latents)):
        if start in seen:
            continue
        group, todo = set(), [start]
        while todo:
            at = todo.pop()
            if at not in group:
                group.add(at)
                todo += np.flatnonzero(linked[at]).tolist()
        seen |= group
        if len(group) > 1:
            groups.append(sorted(group))
    return sorted(groups, key=lambda group: (-len(group), group[0]))


@pytest.fixture
def rows():
    rng = np.random.default_rng(11)
    rows = rng.normal(size=(200, 8)).astype(np.float32)
    rows[20:60] = rows[3]  # many equal ones
    rows[60:70] = rows[4] + 1e-4 * rng.normal(size=(10, 8))
    rows[70] = 2.0 * rows[5]  # the same direction
    return rows


@pytest.mark.parametrize("similarity", [0.9, 0.999, 1.0])
def test_groups_are_those_of_all_pairs(guest, make, rows, metric, similarity):
    if metric == "euclidean":
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)  # where both metrics have the same neighbours
    with guest.open(make(rows, metric=metric, recall=1.0)) as index:
        done = []
        found = index.duplicates(similarity, on_progress=done.append)
        assert sum(done) == 200
    expected = components(rows, min(similarity, 1 - 1e-9))
    assert [group.keys for group in found] == [[f"key-{at}" for at in group] for group in expected]
    assert all(similarity - 1e-6 <= group.similarity <= 1.0 for group in found)


def test_what_tells_copies_decides_where_latents_have_such_a_part(guest, make, rows):
    """Of 8 floats, the last 3 tell copies: groups are those of all pairs by that, and not by the latents."""
    rows = np.concatenate([rows[:, :5], 0.02 * rows[:, 5:]], axis=1)
    rows[80:90, :5] = rows[90, :5]  # of one kind, each another image
    rows[90:95, 5:] = rows[95, 5:] / np.linalg.norm(rows[95, 5:])  # what tells copies has any length
    rows[90:96, :5] = rows[96, :5] + 0.1 * rows[90:96, :5]
    kinds, copies = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (rows[:, :5], rows[:, 5:]))
    expected = components(np.concatenate([kinds, 3 * copies], axis=1), 0.98)
    with guest.open(make(rows, recall=1.0)) as index:
        calibration = measure(index)
        index.calibrate(NAME, calibration.to_json())
        assert [group.keys for group in index.duplicates()] != [[f"key-{at}" for at in group] for group in expected]
        index.calibrate(NAME, replace(calibration, copies_from=5).to_json())
        found = index.duplicates()
    assert [group.keys for group in found] == [[f"key-{at}" for at in group] for group in expected]
    assert all(0.98 <= group.similarity <= 1.0 for group in found)


def test_copies_are_found_behind_near_shots_of_their_scene(guest):
    """Each of 14 near shots has a copy that is farther away by its latents than all other shots, and the other way."""
    rng = np.random.default_rng(7)
    kinds, copies = np.linalg.qr(rng.normal(size=(16, 16)))[0], np.linalg.qr(rng.normal(size=(16, 16)))[0]
    # Shots share their kind, and .92 of what tells copies; so do copies, whose kind is .86 of that of the shots.
    shot = np.sqrt(0.92) * copies[0] + np.sqrt(0.08) * copies[1:15]
    other = np.tile(0.86 * kinds[0] + np.sqrt(1 - 0.86**2) * kinds[1], (14, 1))
    shots = np.concatenate([np.tile(kinds[0], (14, 1)), shot], axis=1)
    rows = np.concatenate([shots, np.concatenate([other, shot], axis=1), rng.normal(size=(60, 32))]).astype(np.float32)
    place = guest.place()
    with guest.build(place, replace(CARD, latent_dim=32)) as builder:
        builder.add(rows, [f"key-{at}" for at in range(len(rows))])
    with guest.open(place) as index:
        index.calibrate(NAME, replace(measure(index), copies_from=16).to_json())
        found = index.duplicates()
    assert {tuple(group.keys) for group in found} == {(f"key-{at}", f"key-{at + 14}") for at in range(14)}


def test_added_and_removed_items_count_as_they_are(guest, make, rows):
    with guest.open(make(rows[:100])) as index:
        index.remove([f"key-{at}" for at in range(20, 59)])
        index.add(rows[[3, 150]], ["again", "single"])
        found = index.duplicates(0.9999)
    assert [group.keys for group in found[1:2]] == [["key-3", "key-59", "again"]]


def test_an_index_without_copies_has_no_groups(guest, make):
    rows = np.eye(8, dtype=np.float32)
    with guest.open(make(rows)) as index:
        assert index.duplicates(0.5) == []
        index.remove(index.keys())
        assert index.duplicates(0.5) == []


@pytest.mark.parametrize("similarity", [0.0, -1.0, 1.1, float("nan")])
def test_similarity_out_of_range(guest, make, similarity):
    with guest.open(make(clustered(5))) as index, pytest.raises(ValueError, match="similarity"):
        index.duplicates(similarity)
