"""What tells an original from other items: scores, thresholds, and what an index stores of them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from build_options import build_options
from pixel_encoder import CARD

from ae_search.calibration import (
    NAME,
    Calibration,
    ViewsCalibration,
    alike_of,
    calibrate,
    measure,
    score,
    store,
    stored,
)
from ae_search.index import IndexBuilder, LatentIndex

DIM = 4


def units(count, seed=0, dim=DIM):
    rows = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def build(tmp_path):
    def built(latents, name="index"):
        card = replace(CARD, latent_dim=latents.shape[1])
        with IndexBuilder(tmp_path / name, card, build_options(n_trees=10, recall=1.0)) as builder:
            builder.add(latents, [f"key {at}" for at in range(len(latents))])
        return LatentIndex.open(tmp_path / name)

    return built


def test_a_level_is_the_mean_similarity_to_the_ten_nearest_after_the_first():
    background, queries = units(40), units(5, seed=1)
    expected = np.sort(queries @ background.T, axis=1)[:, -11:-1].mean(axis=1)
    levels = Calibration(background, 0.5, 0.9).levels(queries)
    assert levels == pytest.approx(expected, abs=1e-6)
    assert Calibration(background, 0.5, 0.9).levels(7 * queries) == pytest.approx(levels, abs=1e-6)


def test_levels_of_few_items_and_of_zeros_are_numbers():
    for count in (1, 2, 5):
        levels = Calibration(units(count), 0.5, 0.9).levels(np.zeros((2, DIM), np.float32))
        assert levels.tolist() == [0.0, 0.0]
    same = np.repeat(units(1), 30, axis=0)
    (level,) = Calibration(same, 0.5, 0.9).levels(same[:1])
    assert level < 1.0
    assert score(1.0, level) == 1.0


def test_a_score_is_the_way_from_the_level_to_one():
    assert score(1.0, 0.3) == score(1.0, -0.4) == 1.0
    assert score(0.3, 0.3) == 0.0
    assert score(0.65, 0.3) == pytest.approx(0.5)
    assert score(-1.0, 0.999) == -1.0


def test_verdicts_and_least_similarities_agree():
    calibration = Calibration(units(40), 0.5, 0.9)
    assert [calibration.verdict(one) for one in (0.49, 0.5, 0.89, 0.9)] == [
        "not here", "probably", "probably", "this is it",
    ]  # fmt: skip
    queries = units(6, seed=3)
    for least, level in zip(calibration.least_similarities(queries), calibration.levels(queries), strict=True):
        assert calibration.verdict(score(least + 1e-9, level)) == "this is it"
        assert calibration.verdict(score(least - 1e-6, level)) == "probably"


def test_thresholds_are_quantiles_of_what_items_reach_with_the_nearest_of_the_others(build):
    latents = units(200)
    with build(latents) as index:
        measured = measure(index)
        assert np.abs(np.linalg.norm(measured.background, axis=1) - 1).max() < 1e-5
        assert {row.tobytes() for row in measured.background.round(4)} == {row.tobytes() for row in latents.round(4)}
    similarities = (latents @ latents.T).astype(float)
    # All items are the background, and each is the nearest to itself.
    levels = np.sort(similarities, axis=1)[:, -11:-1].mean(axis=1)
    np.fill_diagonal(similarities, -1)
    scores = (similarities.max(axis=1) - levels) / (1 - levels)
    assert measured.probable == pytest.approx(np.quantile(scores, 0.85), abs=1e-4)
    assert measured.probable <= measured.certain <= np.quantile(scores, 0.97) + 1e-4


def test_copies_in_the_index_do_not_move_what_is_certain_up_to_them(build):
    latents = units(300, dim=16)
    copies = latents[:15] + 1e-4 * units(15, seed=4, dim=16)
    with build(latents, "without") as index:
        expected = measure(index)
    with build(np.concatenate([latents, copies])) as index:
        assert expected.certain < measure(index).certain < expected.certain + 0.2


def test_it_is_stored_with_the_index_and_found_again(build):
    with build(units(50)) as index:
        assert stored(index) is None
        made = calibrate(index)
        found = stored(index)
        assert found.background == pytest.approx(made.background, abs=1e-3)
        assert (found.probable, found.certain) == (made.probable, made.certain)
        assert len(json.dumps(index.calibration())) < 20_000


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_items_tell_nothing(build, count):
    with build(units(count)) as index:
        assert calibrate(index) is None
        assert index.calibration() == {}


GOOD = Calibration(units(5), 0.5, 0.9).to_json()
BAD = {
    "format": {"format": 2},
    "no background": {"background": None},
    "no base64": {"background": "€"},
    "too short": {"background": GOOD["background"][:-4]},
    "not finite": {"background": "AHw" + GOOD["background"][3:]},
    "too many items": {"items": 10**12},
    "not a number": {"probable": "1"},
    "out of range": {"certain": 1e300},
    "views that are no object": {"views": [0.5, 0.9]},
    "views out of range": {"views": {"probable": 0.5, "certain": -7}},
    "copies from the first float": {"copies_from": 0},
    "copies from behind the last float": {"copies_from": 4},
    "copies from no number": {"copies_from": "2"},
    "half of views": {"views": {"probable": 0.5}},
}


@pytest.mark.parametrize("changed", BAD.values(), ids=list(BAD))
def test_what_strangers_wrote_is_checked_and_left_alone(build, changed, caplog):
    with pytest.raises(ValueError):
        Calibration.from_json(GOOD | changed, DIM)
    with pytest.raises(ValueError, match="5 latents of 7"):
        Calibration.from_json(GOOD, 7)
    with build(units(5)) as index:
        index.calibrate(NAME, GOOD | changed)
        assert stored(index) is None
        assert "index tune" in caplog.text
        index.calibrate(NAME, GOOD)
        assert stored(index).certain == 0.9


def test_a_search_with_views_has_thresholds_of_its_own():
    calibration = Calibration(units(40), 0.5, 0.9, ViewsCalibration(0.7, 0.95))
    verdicts = ["not here", "probably", "probably", "this is it"]
    assert [calibration.verdict(one, views=True) for one in (0.69, 0.7, 0.94, 0.95)] == verdicts
    assert calibration.verdict(0.9) == "this is it"
    unmeasured = Calibration(units(40), 0.5, 0.9)
    assert [unmeasured.verdict(one, views=True) for one in (0.89, 0.9, 1.0)] == ["not here", "probably", "probably"]
    assert Calibration.from_json(calibration.to_json(), DIM).views == ViewsCalibration(0.7, 0.95)


def test_thresholds_of_views_are_those_of_a_normal_distribution_below_one():
    scores = np.random.default_rng(0).normal(0.3, 0.1, 20_000)
    found = ViewsCalibration.of(scores.tolist())
    assert found.probable == pytest.approx(np.quantile(scores, 0.85), abs=0.005)
    assert found.certain == pytest.approx(np.quantile(scores, 0.97), abs=0.005)
    assert ViewsCalibration.of([1.0, 1.0]).certain < 1.0


def test_copies_among_the_items_do_not_move_the_thresholds_of_views_up_to_them():
    scores = np.random.default_rng(0).normal(0.3, 0.1, 100)
    copies = np.concatenate([scores[:75], np.full(25, 0.99)])
    assert ViewsCalibration.of(copies.tolist()).certain < ViewsCalibration.of(scores.tolist()).certain + 0.2


def test_what_views_need_and_what_the_model_said_outlives_a_calibration_without_images(build):
    with build(units(50)) as index:
        store(index, replace(calibrate(index), views=ViewsCalibration(0.25, 0.5), copies_from=2))
        assert calibrate(index).views == stored(index).views == ViewsCalibration(0.25, 0.5)
        assert calibrate(index).copies_from == stored(index).copies_from == 2
        told = replace(CARD, training={"copies_from": 3})
        assert calibrate(index, card=told).copies_from == stored(index).copies_from == 3
        assert calibrate(index, card=replace(told, metric="euclidean")).copies_from is None
        raw = index.calibration()[NAME]
        del raw["views"]  # as it was stored before views were measured
        index.calibrate(NAME, raw)
        assert stored(index).views is None


def test_what_tells_copies_decides_what_is_alike():
    part = units(4, dim=3)
    kinds, copies = np.array([[1, 0], [0.6, 0.8], [1, 0], [1, 0]]), part[[0, 0, 0, 1]]
    latents = np.concatenate([kinds, 0.2 * copies], axis=1).astype(np.float32)
    alike = alike_of(None, Calibration(units(5, dim=5), 0.5, 0.9, copies_from=2))
    rows = alike.compared(latents)
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1)
    # A tenth by the kind, the rest by the copy.
    expected = [0.1 * 0.6 + 0.9, 1.0, 0.1 + 0.9 * float(part[0] @ part[1])]
    assert (rows[1:] @ rows[0]).tolist() == pytest.approx(expected, abs=1e-6)
    assert alike.compared(np.zeros((1, 5), np.float32)).tolist() == [[0.0] * 5]
    assert alike.least(latents).tolist() == [0.98] * 4
    for other in (
        alike_of(0.9, Calibration(units(5, dim=5), 0.5, 0.9, copies_from=2)),
        alike_of(None, Calibration(units(5, dim=5), 0.5, 0.9, copies_from=2), several=True),
        alike_of(None, Calibration(units(5, dim=5), 0.5, 0.9)),
        alike_of(None, None),
    ):
        assert other.compared is None
