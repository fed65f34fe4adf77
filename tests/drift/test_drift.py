"""How far queries have moved: the figures themselves, and a stream that moves from what the index holds to digits."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from build_options import build_options
from PIL import Image
from scipy.stats import ks_2samp
from shapes_encoder import CARD, COUNT, SHAPE, Shapes, gratings

from ae_search import ImageSearch
from ae_search.cli.drift import drift
from ae_search.drift import Logged, QueryLog, compare, read_log
from ae_search.drift.comparing import stability_index
from ae_search.errors import ConfigurationError
from ae_search.index import IndexBuilder, LatentIndex
from ae_search.trust import Usual, reconstruction_errors, remember, stored

RNG = np.random.default_rng(0)
NOTHING = np.zeros(0, np.float32)


def logged(distance, **more):
    count = len(distance)
    nan = np.full(count, np.nan)
    columns = {"similarity": nan, "error": nan, "familiar": nan, "distance": np.asarray(distance, float)} | more
    return Logged(time_s=np.arange(count, dtype=float), **columns)


def test_a_stability_index_is_that_of_the_tenths():
    kept = np.arange(1000, dtype=np.float32)
    assert stability_index(kept, kept) == 0
    seen = np.concatenate([np.arange(0, 500), np.arange(0, 500)]).astype(np.float32)
    shares = np.array([200.5] * 5 + [0.5] * 5) / 1005
    usual = np.full(10, 0.1)
    assert stability_index(seen, kept) == pytest.approx(((shares - usual) * np.log(shares / usual)).sum(), rel=1e-6)
    same = np.ones(50, np.float32)
    assert stability_index(same, same) == 0 and np.isfinite(stability_index(2 * same, same))


def test_the_figures_are_those_of_scipy_and_numpy():
    kept = np.sort(RNG.normal(0, 1, 500)).astype(np.float32)
    seen = RNG.normal(0.5, 1, 400)
    found = compare(logged(seen, error=seen), Usual(NOTHING, kept, NOTHING))
    (measure,) = found.measures
    assert (measure.name, measure.queries) == ("distance", 400)
    assert measure.ks == pytest.approx(ks_2samp(seen, kept).statistic, abs=1e-6) and measure.p_value < 1e-6
    assert (measure.median, measure.usual_median) == pytest.approx((np.median(seen), np.median(kept)))
    assert found.distrusted == (seen.astype(np.float32) > kept[495]).mean()  # the first with more than 99 % below it
    assert sum(window.queries for window in found.windows) == 400 and len(found.windows) == 8


@pytest.mark.parametrize(("moved", "verdict"), [(0.0, "as usual"), (0.35, "moved a little"), (1.0, "moved")])
def test_verdicts(moved, verdict):
    kept = np.sort(RNG.normal(0, 1, 1000)).astype(np.float32)
    assert compare(logged(RNG.normal(moved, 1, 2000)), Usual(NOTHING, kept)).verdict == verdict


def test_few_queries_are_not_compared():
    kept = np.arange(1000, dtype=np.float32)
    with pytest.raises(ConfigurationError, match="50 queries .* Received: 49, and 7 of other models"):
        compare(replace(logged(np.ones(49)), others=7), Usual(NOTHING, kept))


def digits(count):
    """Handwritten digits of scikit-learn, enlarged: uint8 `[count, 16, 16, 1]`."""
    from sklearn.datasets import load_digits

    small = np.rint(load_digits().images[:count] * (255 / 16)).astype(np.uint8)
    return np.stack([np.asarray(Image.fromarray(one).resize(SHAPE[:2])) for one in small])[..., None]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """An index of gratings, and a log whose second half are digits."""
    place, encoder, images = tmp_path_factory.mktemp("drift"), Shapes(), gratings(COUNT)
    with IndexBuilder(place / "index", encoder.describe(), build_options(n_trees=10, recall=1.0)) as builder:
        builder.add(encoder.encode(images), [f"grating {at}" for at in range(COUNT)])
    with LatentIndex.open(place / "index") as index:
        remember(index, reconstruction_errors(images, encoder.decode(encoder.encode(images))))
        search = ImageSearch(encoder, index)
        for folder, stream in (("still", gratings(400, first=COUNT)), ("moving", None)):
            if stream is None:
                stream = np.concatenate([gratings(200, first=COUNT), digits(200)])
            with QueryLog(place / folder) as log:
                found = search.search_with_trust_batch(list(stream), check_reconstruction=True)
                for at, one in enumerate(found):
                    log.add(one, time_s=1e9 + 60 * at)
    return place


def test_a_stream_that_moves_to_digits_is_seen_and_when(place):
    with LatentIndex.open(place / "index") as index:
        usual = stored(index)
    still = compare(read_log(place / "still", CARD.fingerprint), usual)
    assert still.verdict != "moved" and still.distrusted < 0.05
    moving = compare(read_log(place / "moving", CARD.fingerprint), usual)
    assert moving.verdict == "moved" and {measure.name for measure in moving.measures} == {
        "similarity", "distance", "error",
    }  # fmt: skip
    assert {measure.name: measure.verdict for measure in moving.measures}["distance"] == "moved"
    before, after = moving.windows[:4], moving.windows[4:]
    assert max(window.distrusted for window in before) < 0.1 < 0.9 < min(window.distrusted for window in after)
    assert max(window.psi for window in before) < min(window.psi for window in after)


def test_the_command_prints_a_table_and_takes_a_time(place):
    command = [
        sys.executable,
        "-m",
        "ae_search",
        "drift",
        "still",
        "--index",
        "index",
        "--since",
        "2001-09-09T05:00:00",
    ]
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin"}
    result = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=120, env=environment)
    assert result.returncode == 0, result.stderr
    assert "distance" in result.stdout and "PSI" in result.stdout and "2001-09-09 0" in result.stdout
    assert "400 queries" not in result.stdout and " queries: " in result.stdout


def test_the_command_prints_json_and_a_picture(place, tmp_path, capsys):
    drift(place / "moving", place / "index", as_json=True, plot=tmp_path / "drift.png")
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["queries"], found["others"]) == ("moved", 400, 0)
    assert {one["name"] for one in found["measures"]} == {"similarity", "distance", "error"}
    assert found["measures"][1]["verdict"] == "moved" and len(found["windows"]) == 8
    with Image.open(tmp_path / "drift.png") as picture:
        assert picture.size[0] > 1000


def test_the_command_says_what_is_missing(place, tmp_path):
    with IndexBuilder(tmp_path / "bare", CARD, build_options(n_trees=10)) as builder:
        builder.add(Shapes().encode(gratings(5)), list("abcde"))
    with pytest.raises(ConfigurationError, match="`ae-search index tune`"):
        drift(place / "moving", tmp_path / "bare")
    with pytest.raises(ConfigurationError, match="no log of queries"):
        drift(place / "index", place / "index")
