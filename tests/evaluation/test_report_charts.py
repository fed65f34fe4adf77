"""Charts of the report, and its map of latents."""

import subprocess
import sys

import numpy as np
import pytest
from report_page import Page, written
from synthetic_evaluation import evaluation, sample

from ae_search.evaluation.report.charts import nice_ticks
from ae_search.evaluation.report.latent_map import MARKED_LABELS, mark_numbers, project


@pytest.fixture
def report(tmp_path):
    return lambda made: written(made, tmp_path)


def test_the_tuned_point_is_marked(report):
    page = report(evaluation())
    assert "tuned: effort 400" in page.by_tag["text"]
    rings = [attributes for attributes in page.all("circle") if attributes["class"] == "ring"]
    assert len(rings) == 1
    spots = [attributes for attributes in page.all("circle") if attributes["class"] == "spot"]
    assert (rings[0]["cx"], rings[0]["cy"]) == (spots[2]["cx"], spots[2]["cy"])
    assert [float(spot["cx"]) for spot in spots] == sorted(float(spot["cx"]) for spot in spots)
    assert [float(spot["cy"]) for spot in spots] == sorted((float(spot["cy"]) for spot in spots), reverse=True)


def test_bars_are_as_long_as_their_figures(report):
    page = report(evaluation())
    widths = [float(bar["width"]) for bar in page.all("rect") if bar["class"].startswith("bar ")]
    assert widths[:3] == pytest.approx([0.9 * 320, 0.8 * 320, 0.7 * 320], abs=0.1)


def test_the_map_keeps_what_is_apart_apart():
    pytest.importorskip("sklearn")
    shown = sample(90)
    laid = project(shown, angular=False, seed=0)
    assert laid.method == "t-SNE"
    assert 0 <= laid.places.min() and laid.places.max() <= 640
    labels = np.array(shown.labels)[laid.rows]
    distances = np.linalg.norm(laid.places[:, None] - laid.places[None], axis=2) + 1e6 * np.eye(90)
    assert (labels[distances.argmin(axis=1)] == labels).mean() > 0.95


def test_the_map_without_scikit_learn_is_of_principal_components(tmp_path):
    code = (
        "import sys; sys.modules['sklearn'] = None; sys.path[:0] = sys.argv[1:3]\n"
        "import pathlib\n"
        "from synthetic_evaluation import evaluation\n"
        "from ae_search.evaluation.report import write_report\n"
        "write_report(evaluation(), pathlib.Path(sys.argv[3]))\n"
    )
    here = __file__.rpartition("/")[0]
    arguments = [sys.executable, "-c", code, here, f"{here}/..", str(tmp_path / "report.html")]
    subprocess.run(arguments, check=True, timeout=120)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "PCA of 40 latents" in page.by_tag["text"]
    assert "t-SNE" not in page.text


def test_principal_components_are_those_of_the_covariance():
    few = sample(8)
    laid = project(few, angular=False, seed=0)
    assert laid.method == "PCA"
    centred = few.latents - few.latents.mean(axis=0)
    values = np.linalg.eigvalsh(centred.T @ centred)[::-1]
    shown = ((laid.places - laid.places.mean(axis=0)) ** 2).sum(axis=0)
    assert shown[1] / shown[0] == pytest.approx(values[1] / values[0], rel=1e-3)


@pytest.mark.parametrize(("count", "dim"), [(1, 6), (2, 1), (30, 1), (12, 2)])
def test_a_map_of_little_is_still_one(count, dim):
    laid = project(sample(count, dim), angular=True, seed=0)
    assert laid.places.shape == (count, 2) and np.isfinite(laid.places).all()


def test_latents_that_are_no_numbers_or_all_the_same_do_no_harm(report):
    made = sample()
    made.latents[:] = 1.0
    made.latents[0] = np.nan
    page = report(evaluation(latents=made))
    assert "PCA of 39 latents" in page.by_tag["text"]


def test_marks_go_to_the_most_frequent_labels():
    labels = [f"label {at}" for at in range(15) for _ in range(at + 1)] + [None] * 99
    numbers = mark_numbers(labels)
    assert set(numbers) == {f"label {at}" for at in range(5, 15)}
    assert sorted(numbers.values()) == list(range(MARKED_LABELS))


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.0, 0.0123), (0.62, 1.0), (0.9, 1.0), (0, 345.0)])
def test_ticks_are_few_and_enclose_the_span(low, high):
    ticks = nice_ticks(low, high)
    assert 3 <= len(ticks) <= 8
    assert ticks[0] <= low + 1e-9 and ticks[-1] >= high - 1e-9
    assert np.diff(ticks) == pytest.approx(ticks[1] - ticks[0])
