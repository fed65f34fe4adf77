"""The HTML report: every part is there, says what was found, and stays away where its data is missing."""

from dataclasses import replace

import numpy as np
import pytest
from report_page import sections, written
from synthetic_evaluation import CURVE, NAMES, evaluation, query, sample

from ae_search.errors import ConfigurationError
from ae_search.evaluation.report import write_report
from ae_search.evaluation.results import Confusion, IndexRecall, Retrieval
from ae_search.evaluation.shown import Examples, LatentSample


@pytest.fixture
def report(tmp_path):
    return lambda made: written(made, tmp_path)


def test_everything_has_its_section(report):
    page = report(evaluation())
    assert sections(page) == ["baselines", "labels", "altered", "neighbours", "mixed", "kept", "map", "index"]
    assert len(page.all("a")) == 8
    for told in (*NAMES, "ours, version 3", "ab" * 32, "1,234 indexed images", "0.800", "Shirt".lower(), "0.0123"):
        assert told in page.text
    # query, ten neighbours, three times; four pairs of originals and reconstructions
    assert len(page.all("img")) == 3 * 11 + 4 * 2
    assert len(page.all("image")) > 10


def test_the_worst_label_is_named_and_stands_first(report):
    page = report(evaluation())
    assert "The worst is shirt with 0.75; the best is bag with 0.90." in page.text
    labels = page.text.split("Precision@10 by label")[1]
    assert labels.index("shirt ▼ worst") < labels.index("coat") < labels.index("bag")


def test_right_and_wrong_are_told_without_colour(report):
    page = report(evaluation(examples=Examples(misses=(query("coat", ["bag", "coat", None]),))))
    assert [attributes["alt"] for attributes in page.all("img")][:4] == [
        "query, coat",
        "neighbour 1, wrong: bag",
        "neighbour 2, right: coat",
        "neighbour 3, wrong: no label",
    ]
    assert page.by_tag["span"].count("✓") == 1
    assert page.by_tag["span"].count("✗") == 2
    assert page.by_tag["h3"] == ["Misses"]


def test_a_query_without_label_has_no_right_neighbour(report):
    page = report(evaluation(examples=Examples(hits=(query(None, [None, "bag"]),))))
    assert "✓" not in page.by_tag["span"]


def test_ours_below_a_baseline_is_said(report):
    made = evaluation()
    better = replace(made.retrieval[1], mean_average_precision=0.75)
    page = report(replace(made, retrieval=(made.retrieval[0], better)))
    assert "ours version 3 is 0.250 below the best baseline, pixels." in page.text
    assert "ours version 3 is 0.100 above the best baseline, pixels." in report(made).text


def test_what_is_missing_is_left_out(report):
    nothing = LatentSample(np.zeros((0, 6), np.float32), (), (), ())
    bare = evaluation(
        retrieval=(),
        reverse_search=(),
        confusion=None,
        examples=Examples(),
        latents=nothing,
        reconstructions=None,
        recall=IndexRecall(1.0, 1, 0.0, 0.0, 1, ()),
    )
    page = report(bare)
    assert sections(page) == ["index"]
    assert page.all("img") == page.all("table") == []


@pytest.mark.parametrize(
    ("part", "nothing", "gone"),
    [
        ("retrieval", (), {"baselines", "labels"}),
        ("reverse_search", (), {"altered"}),
        ("confusion", None, {"mixed"}),
        ("examples", Examples(), {"neighbours"}),
        ("reconstructions", None, {"kept"}),
    ],
)
def test_one_missing_part_leaves_the_others(report, part, nothing, gone):
    everything = {"baselines", "labels", "altered", "neighbours", "mixed", "kept", "map", "index"}
    assert set(sections(report(evaluation(**{part: nothing})))) == everything - gone


def test_the_best_of_a_row_has_a_star_unless_all_are_equal(report):
    made = evaluation(retrieval=())
    shares = [{"crop": one, "noise": 0.5} for one in (0.7, 0.8, 0.8)]
    rows = tuple(replace(row, found_first=share) for row, share in zip(made.reverse_search, shares, strict=True))
    told = report(replace(made, reverse_search=rows)).text
    assert "crop0.70★ 0.80★ 0.80noise0.500.500.50mean0.60★ 0.65★ 0.65" in told


def test_ours_alone_is_compared_with_nothing(report):
    made = evaluation()
    page = report(replace(made, retrieval=made.retrieval[:1], reverse_search=made.reverse_search[:1]))
    assert "best baseline" not in page.text and "compared with every item" not in page.text
    assert "★" not in "".join(page.by_tag["td"])


def test_figures_that_are_none_are_dashes(report):
    none = float("nan")
    rows = tuple(Retrieval(name, 4, {1: none, 10: none, 100: none}, none, {}) for name in NAMES)
    page = report(evaluation(retrieval=rows, recall=IndexRecall(none, 5, none, none, 3, CURVE)))
    assert "nan" not in page.text
    assert "labels" not in sections(page)


def test_one_query_one_label_one_item(report):
    alone = evaluation(labels=("bag", "coat"))
    one = replace(
        alone,
        retrieval=(Retrieval("ours", 4, {1: 1.0, 10: 1.0, 100: 1.0}, 1.0, {"bag": 1.0}),),
        confusion=Confusion(("bag",), np.ones((1, 1))),
        recall=IndexRecall(1.0, 1, 0.0, 0.0, 1, (CURVE[0],)),
        latents=sample(1, labels=("bag",)),
    )
    page = report(one)
    assert "labels" not in sections(page)
    assert "No label is mixed up" in page.text


def test_many_labels_keep_the_worst_mixed_up(report):
    count = 50
    shares = np.eye(count)
    shares[7, 7], shares[7, 3] = 0.25, 0.75
    labels = tuple(f"label {at:02}" for at in range(count))
    page = report(evaluation(labels=labels, confusion=Confusion(labels, shares)))
    assert "Most often: label 07 finds label 03 (75% of its neighbours)." in page.text
    table = page.text.split("a column the neighbour's")[1].split("What the latents keep")[0]
    assert "label 07" in table and "label 49" not in table
    assert "others, or none" in table


def test_a_report_is_replaced_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    assert write_report(evaluation(latents=sample(3)), path) == path
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [one.name for one in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("place", ["no/such/report.html", "."])
def test_a_place_that_cannot_be_written_is_told(tmp_path, place):
    with pytest.raises(ConfigurationError, match="Cannot write the report"):
        write_report(evaluation(latents=sample(3)), tmp_path / place)
