"""A whole evaluation with an encoder whose latents are the pixels: ours and the pixel baseline must agree."""

import io
import json

import numpy as np
import pytest
from build_options import build_options
from PIL import Image
from pixel_encoder import OTHER, PixelEncoder, at

from ae_search.data import ArraySource, open_source
from ae_search.errors import ConfigurationError, ModelMismatchError
from ae_search.evaluation.evaluate import evaluate
from ae_search.evaluation.measures.copy_alterations import EVERYDAY, HARD
from ae_search.evaluation.measures.no_original import Scored, ranked, search_with_half_hidden
from ae_search.evaluation.measuring import MeasuringPlan
from ae_search.evaluation.reading import ItemImages, Reader
from ae_search.index import IndexBuilder, LatentIndex

PLAN = MeasuringPlan(queries=30, reverse=12, seed=3)
NAMES = ["pixels version 2", "pixels", "pixels, PCA", "gradients, PCA", "untrained encoder"]


def source(name, count, seed, *, labelled=True):
    """2 x 2 px: bright on the left is "left", on top is "top"."""
    random = np.random.default_rng(seed)
    pixels = random.integers(1, 120, (count, 2, 2, 1), np.uint8)
    pixels[::2, :, 0] += 90
    pixels[1::2, 0] += 90
    labels = [["left", "top"][place % 2] for place in range(count)] if labelled else [None] * count
    return ArraySource(name, pixels, labels)


def build(path, *sources, thumbnails=None):
    encoder = PixelEncoder(at(2))
    with IndexBuilder(path, encoder.describe(), build_options(n_trees=10, recall=1.0)) as builder:
        for one in sources:
            keys = [one.key(place) for place in range(len(one))]
            builder.add(encoder.encode(one.images), keys, one.labels, thumbnails=thumbnails)
    return LatentIndex.open(path)


@pytest.fixture(scope="module")
def database():
    return source("made/train", 50, 0)


@pytest.fixture
def index(tmp_path, database):
    with build(tmp_path / "index", database) as opened:
        yield opened


@pytest.fixture(scope="module")
def result(tmp_path_factory, database):
    searches = {"nothing but item 0": lambda images: ["made/train/0"] * len(images)}
    with build(tmp_path_factory.mktemp("evaluate") / "index", database) as opened:
        return evaluate(
            opened,
            PixelEncoder(at(2)),
            source("made/test", 40, 1),
            [database],
            plan=PLAN,
            searches=searches,
            reconstruct=lambda images: images / 2,
        )


def test_it_says_what_was_measured(result):
    assert (result.index, result.model.name, result.metric) == ("index", "pixels", "angular")
    assert (result.items, result.queries, result.source, result.seed) == (50, 30, "made/test", 3)
    assert (result.latent_dim, result.image_shape) == (4, (2, 2, 1))
    assert result.labels == ("left", "top")
    assert result.damaged == {}
    assert result.notes == ()


def test_an_item_of_several_latents_counts_by_the_nearest(result, database, tmp_path):
    encoder, keys = PixelEncoder(at(2)), [database.key(place) for place in range(len(database))]
    latents = encoder.encode(database.images)
    with IndexBuilder(tmp_path / "index", encoder.describe(), build_options(n_trees=10, recall=1.0)) as builder:
        builder.add(latents[:20], keys[:20], database.labels[:20])
        # Brightness is above 0, so that nothing is near to what is below.
        several = np.stack([-latents[20:], latents[20:], -latents[20:]], axis=1)
        builder.add(several, keys[20:], database.labels[20:])
    with LatentIndex.open(tmp_path / "index") as opened:
        found = evaluate(opened, encoder, source("made/test", 40, 1), [database], plan=PLAN)
    assert found.retrieval == result.retrieval
    assert found.reverse_search[0].found_first == result.reverse_search[0].found_first
    assert found.recall.recall_at_10 == 1.0
    for ours, other in zip(found.examples.worst, result.examples.worst, strict=True):
        assert [(one.key, one.similarity) for one in ours.neighbours] == [
            (one.key, pytest.approx(one.similarity)) for one in other.neighbours
        ]


def test_our_latents_are_the_pixels_so_both_rows_agree(result):
    assert [row.name for row in result.retrieval] == NAMES
    ours, pixels, *_ = result.retrieval
    assert ours.precision == pytest.approx(pixels.precision)
    assert ours.mean_average_precision == pytest.approx(pixels.mean_average_precision)
    assert ours.precision_by_label == pytest.approx(pixels.precision_by_label)
    assert (ours.floats, pixels.floats) == (4, 4)


def test_the_figures_are_those_of_brute_force(result, database):
    queries = source("made/test", 40, 1)
    drawn = np.random.default_rng(3).permutation(40)[:30]
    rows, items = (
        np.array(images.reshape(len(images), -1), float) for images in (queries.images[drawn], database.images)
    )
    cosines = rows @ items.T / np.linalg.norm(rows, axis=1)[:, np.newaxis] / np.linalg.norm(items, axis=1)
    order = np.argsort(-cosines, axis=1)
    right = np.array(database.labels)[order] == np.array(queries.labels)[drawn][:, np.newaxis]
    ours = result.retrieval[0]
    assert ours.precision == pytest.approx({1: right[:, 0].mean(), 10: right[:, :10].mean(), 100: 0.5})
    ranks = right.cumsum(axis=1) / np.arange(1, 51)
    assert ours.mean_average_precision == pytest.approx(((ranks * right).sum(axis=1) / 25).mean())
    left = np.array(queries.labels)[drawn] == "left"
    assert result.confusion.shares[0] == pytest.approx([right[left, :10].mean(), 1 - right[left, :10].mean()])


def test_reverse_search_has_our_row_the_asked_for_and_the_baselines(result):
    assert [row.name for row in result.reverse_search] == [NAMES[0], "nothing but item 0", *NAMES[1:]]
    ours, fixed, pixels, *_ = result.reverse_search
    assert set(ours.found_first) == set(EVERYDAY)
    assert ours.found_first == pytest.approx(pixels.found_first)
    # Cosine does not see brightness, but rounding.
    assert ours.found_first["darkening"] > 0.8 > ours.found_first["mirror"]
    assert ours.mean == pytest.approx(np.mean(list(ours.found_first.values())))
    assert set(fixed.found_first.values()) <= {0.0, 1 / 12}
    assert {row.queries for row in result.reverse_search} == {12}
    assert ours.ms > 0
    assert pixels.ms is None


def test_examples_are_what_they_are_called(result):
    shown = [*result.examples.hits, *result.examples.misses, *result.examples.worst]
    assert len({one.key for one in shown}) == len(shown)
    assert result.examples.worst
    worst = [one.precision_at_10 for one in result.examples.worst]
    assert worst == sorted(worst)
    assert all(one.precision_at_10 == 1.0 for one in result.examples.hits)
    assert all(one.neighbours[0].label != one.label for one in result.examples.misses)
    for one in shown:
        assert len(one.neighbours) == 10
        similarities = [answer.similarity for answer in one.neighbours]
        assert similarities == sorted(similarities, reverse=True)
        assert np.mean([answer.label == one.label for answer in one.neighbours]) == pytest.approx(one.precision_at_10)


def test_pictures_are_the_pixels_where_the_index_has_no_thumbnails(result, database):
    one = result.examples.worst[0]
    queries = source("made/test", 40, 1)
    assert np.array_equal(pixels_of(one.picture), queries.images[queries.position(one.key), ..., 0])
    answer = one.neighbours[0]
    assert np.array_equal(pixels_of(answer.picture), database.images[database.position(answer.key), ..., 0])


def pixels_of(picture):
    return np.asarray(Image.open(io.BytesIO(picture)))


def test_the_map_has_items_with_their_latents(result, database):
    sample = result.latents
    assert len(sample.keys) == 50
    places = [database.position(key) for key in sample.keys]
    assert sample.latents == pytest.approx(database.images[places].reshape(-1, 4) / 255)
    assert list(sample.labels) == [database.labels[place] for place in places]
    assert np.array_equal(pixels_of(sample.pictures[7]), database.images[places[7], ..., 0])


def test_reconstructions_and_their_error(result):
    made = result.reconstructions
    assert made.originals.shape == (10, 2, 2, 1)
    assert made.reconstructions == pytest.approx(made.originals / 2)
    assert made.mean_squared_error == pytest.approx(float(np.mean((made.originals / 2) ** 2)))


def test_the_json_has_all_figures_and_no_picture(result):
    told = json.loads(result.to_json())
    assert told["retrieval"][0]["precision"]["10"] == pytest.approx(result.retrieval[0].precision[10])
    assert told["retrieval"][0]["worst_label"] == result.retrieval[0].worst_label
    assert told["reverse_search"][0]["mean"] == pytest.approx(result.reverse_search[0].mean)
    assert told["recall"]["recall_at_10"] == 1.0
    assert np.array(told["confusion"]["shares"]).shape == (2, 2)
    assert told["model"]["fingerprint"] == "ab" * 32
    assert told["reconstruction_error"] == result.reconstructions.mean_squared_error
    assert "picture" not in result.to_json()


def test_the_same_seed_gives_the_same_figures(index, database):
    plan = MeasuringPlan(queries=30, reverse=5, baselines=False, seed=4)
    one, same = (
        evaluate(index, PixelEncoder(at(2)), source("made/test", 40, 1), [database], plan=plan) for _ in range(2)
    )
    assert one.retrieval == same.retrieval
    assert one.reverse_search[0].found_first == same.reverse_search[0].found_first
    assert [row.name for row in one.retrieval] == NAMES[:1]


def test_figures_do_not_depend_on_where_blocks_end(index, database, result, monkeypatch):
    for room in ("reading", "items"):
        monkeypatch.setattr(f"ae_search.evaluation.{room}.BLOCK", 5)
    other = evaluate(index, PixelEncoder(at(2)), source("made/test", 40, 1), [database], plan=PLAN)
    assert other.retrieval == result.retrieval
    told = {row.name: row.found_first for row in result.reverse_search}
    assert {row.name: row.found_first for row in other.reverse_search} == {name: told[name] for name in NAMES}


def test_a_query_that_is_an_item_is_not_its_own_neighbour(index, database):
    result = evaluate(index, PixelEncoder(at(2)), database, [database], plan=MeasuringPlan(reverse=0))
    for one in (*result.examples.worst, *result.examples.hits):
        assert one.key not in [answer.key for answer in one.neighbours]
    ours, pixels, *_ = result.retrieval
    assert ours.precision == pytest.approx(pixels.precision)
    # Each has 24 fellows among 49 others.
    assert ours.precision[100] == pytest.approx(24 / 49)
    assert result.reverse_search == ()
    assert "50 of 50 queries are items of the index" in result.notes[0]


def test_without_labels_there_is_no_retrieval_but_all_else(index, database, tmp_path):
    queries = source("made/test", 20, 1, labelled=False)
    result = evaluate(index, PixelEncoder(at(2)), queries, [database], plan=PLAN)
    assert result.retrieval == ()
    assert result.confusion is None
    assert result.labels == ()
    assert result.examples.worst == ()
    assert result.notes == ("No query has a label, so retrieval was not measured.",)
    assert result.recall.recall_at_10 == 1.0
    assert [row.name for row in result.reverse_search] == NAMES
    with build(tmp_path / "bare", source("made/train", 50, 0, labelled=False)) as bare:
        told = evaluate(bare, PixelEncoder(at(2)), source("made/test", 20, 1), [database], plan=PLAN)
    assert told.notes == ("No item of the index has a label, so retrieval was not measured.",)


def test_queries_without_a_label_among_others_count_for_recall_only(index):
    labelled = source("made/test", 20, 1)
    queries = ArraySource("made/test", labelled.images, [None, *labelled.labels[1:]])
    result = evaluate(index, PixelEncoder(at(2)), queries, plan=PLAN)
    assert result.recall.queries == 20
    assert "1 of 20 queries have no label; retrieval was measured with the others." in result.notes
    assert sum(result.retrieval[0].precision_by_label.values()) > 0


def test_where_the_images_are_nowhere_there_are_no_baselines(index):
    result = evaluate(index, PixelEncoder(at(2)), source("made/test", 20, 1), plan=PLAN)
    assert [row.name for row in result.retrieval] == NAMES[:1]
    assert result.reverse_search == ()
    assert result.latents.pictures[0] is None
    assert "no strict reverse search and no baselines" in result.notes[0]
    other = evaluate(index, PixelEncoder(at(2)), source("made/test", 20, 1), [source("else/where", 5, 2)], plan=PLAN)
    assert other.reverse_search == ()
    assert other.notes == ("50 items have no image in else/where; they are missing where images were needed.",)


def test_items_without_an_image_are_left_out_of_the_baselines(index, database):
    part = ArraySource("made/train", database.images[:30], database.labels[:30])
    result = evaluate(index, PixelEncoder(at(2)), source("made/test", 20, 1), [part], plan=PLAN)
    assert [row.name for row in result.retrieval] == NAMES
    assert result.reverse_search[0].queries < 12
    assert "20 items have no image in made/train" in result.notes[0]
    with_all = evaluate(index, PixelEncoder(at(2)), database, [part], plan=MeasuringPlan(reverse=0))
    # Queries that are items which the baselines lack.
    assert len(with_all.retrieval) == 5


def test_an_index_too_large_for_the_baselines_is_told(index, database, monkeypatch):
    monkeypatch.setattr("ae_search.evaluation.measuring.MAX_GALLERY_BYTES", 199)
    result = evaluate(index, PixelEncoder(at(2)), source("made/test", 20, 1), [database], plan=PLAN)
    assert [row.name for row in result.retrieval] == NAMES[:1]
    assert [row.name for row in result.reverse_search] == NAMES[:1]
    assert "too large for the baselines" in result.notes[0]


def test_removed_and_added_items_are_seen(index, database):
    more = source("more/train", 6, 9)
    index.remove([database.key(place) for place in range(10)])
    index.add(PixelEncoder(at(2)).encode(more.images), [more.key(place) for place in range(6)], more.labels)
    result = evaluate(index, PixelEncoder(at(2)), source("made/test", 20, 1), [database, more], plan=PLAN)
    assert result.items == 46
    ours, pixels, *_ = result.retrieval
    assert ours.precision == pytest.approx(pixels.precision)
    assert any(key.startswith("more/") for key in result.latents.keys)


def test_what_cannot_be_evaluated_is_refused(index, database, tmp_path):
    with pytest.raises(ModelMismatchError, match="index rebuild"):
        evaluate(index, PixelEncoder(at(2, OTHER)), database)
    index.remove([database.key(place) for place in range(50)])
    with pytest.raises(ConfigurationError, match="holds no item"):
        evaluate(index, PixelEncoder(at(2)), database)


def test_harder_alterations_are_measured_when_they_are_asked_for(index, database):
    for name, ways in (("hard", HARD), ("all", EVERYDAY | HARD)):
        plan = MeasuringPlan(queries=5, reverse=6, seed=3, alterations=name)
        ours, *others = evaluate(index, PixelEncoder(at(2)), database, [database], plan=plan).reverse_search
        assert [list(row.found_first) for row in (ours, *others)] == [list(ways)] * 5
        # A grey image has no colours to lose.
        assert ours.found_first["grey"] == ours.found_first["saturation"] == 1.0 > ours.found_first["quarter turn"]


def test_half_of_the_originals_are_hidden_and_ranked_by_similarity_and_by_score(result):
    plain, normalised = result.missing_originals
    assert (plain.name, plain.normalised, normalised.normalised) == (NAMES[0], False, True)
    assert plain.queries == normalised.queries == 12 * len(EVERYDAY)
    for row in (plain, normalised):
        assert 0.0 <= row.recall_at_precision_90 <= 1.0
        assert 0.0 < row.micro_average_precision <= 1.0


def test_ranked_by_hand():
    told, right = np.array([0.9, 0.8, 0.7, 0.1]), np.array([True, False, True, False])
    assert ranked(told, right, 2) == (pytest.approx((1 + 2 / 3) / 2), 0.5)
    assert ranked(told, ~right, 4) == (pytest.approx((1 / 2 + 2 / 4) / 4), 0.0)
    assert ranked(told[:1], right[:1], 1) == (1.0, 1.0)


def test_a_hidden_original_is_no_answer(database, index):
    images = ItemImages([database], Reader((2, 2, 1)))
    keys = [database.key(place) for place in range(4)]

    def perfect(copies):
        return [[Scored(key, 0.9, 0.8), Scored("other", 0.5, 0.1)] for key in keys[: len(copies)]]

    for row in search_with_half_hidden({"perfect": perfect}, keys, images, seed=0):
        assert (row.micro_average_precision, row.recall_at_precision_90) == (1.0, 1.0)
    careless = search_with_half_hidden({"x": lambda copies: [[Scored("other", 0.9, 0.9)]] * 4}, keys, images, seed=0)
    assert [row.micro_average_precision for row in careless] == [0.0, 0.0]


def test_alterations_that_nobody_knows_are_the_programmers_mistake():
    with pytest.raises(ValueError, match="everyday"):
        MeasuringPlan(alterations="odd")


@pytest.mark.parametrize("wrong", [{"queries": 0}, {"reverse": -1}, {"seed": -1}])
def test_a_plan_with_wrong_numbers_is_the_programmers_mistake(wrong):
    with pytest.raises(ValueError, match="at least 1 query"):
        MeasuringPlan(**wrong)


def test_no_readable_query_is_refused(index, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.jpg").write_text("no image")
    with pytest.raises(ConfigurationError, match="None of the 1 images of bad can be read"):
        evaluate(index, PixelEncoder(at(2)), open_source(str(tmp_path / "bad")))
