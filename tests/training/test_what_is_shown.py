"""What an encoder is shown, and beside which partner."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from ae_search.data import ArraySource, open_source
from ae_search.data.pipeline import readable_images
from ae_search.errors import ConfigurationError
from ae_search.model.heads import CLASSES, COLOURS, GRADIENTS, IMAGE, KEPT, PARTNER, PARTNERS, PIXELS, VIEW, VIEWS
from ae_search.model.histograms import GRADIENT_FLOATS, oriented_gradients
from ae_search.model.hsv_histogram import hsv_histogram
from ae_search.training import TrainingOptions, configure, train
from ae_search.training.batches import Batches
from ae_search.training.measured_once import measured_once
from ae_search.training.partners import nearest_partners
from ae_search.training.recipe import Recipe


def grey_source(count):
    return ArraySource("grey", np.random.default_rng(5).integers(0, 256, (count, 8, 8, 1), np.uint8), ["a"] * count)


def test_partners_are_nearest_within_their_group(digits):
    images = readable_images(digits, digits.image_shape)
    groups = [np.arange(0, 200), np.arange(200, 203)]
    table = nearest_partners(images, groups, seed=1)
    assert table.shape == (len(digits), 5)
    assert set(table[:200].ravel()) <= set(groups[0])
    assert all(at not in row for at, row in enumerate(table[:203]))
    # Three images have two neighbours each, which are repeated.
    assert sorted(set(table[200])) == [201, 202]
    # Who is in no group is its own.
    assert (table[203:] == np.arange(203, len(digits))[:, None]).all()
    # Neighbours have the same digit far more often than one in ten.
    labels = np.array(digits.labels)
    assert (labels[table[:200]] == labels[:200, None]).mean() > 0.6


def test_partners_are_nearest_by_latents_where_those_are_given():
    images = readable_images(grey_source(12), (8, 8, 1))
    turn = np.linspace(0, 3, 12)
    latents = np.stack([np.cos(turn), np.sin(turn)], axis=1).astype(np.float32)
    table = nearest_partners(images, [np.arange(12)], seed=0, latents=latents)
    assert [set(row) for row in table[[0, 11]]] == [{1, 2, 3, 4, 5}, {6, 7, 8, 9, 10}]


def test_one_image_alone_is_its_own_partner():
    images = readable_images(grey_source(1), (8, 8, 1))
    assert nearest_partners(images, [np.arange(1), np.arange(0)], seed=0).tolist() == [[0] * 5]


@pytest.mark.parametrize("once", [False, True])
def test_batches_ask_for_what_the_recipe_names(once):
    source = ArraySource("colour", np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), np.uint8), ["a"] * 9)
    keras.utils.set_random_seed(0)
    images = readable_images(source, (8, 8, 3))
    recipe = Recipe(gradients=1, colours=1, contrast=1, kept=1, copies=1, labels=1, moved=0.5, spoiled=0.5)
    partners = np.tile(np.arange(9, dtype=np.int32)[::-1, None], 5)
    begun = np.random.default_rng(1).random((9, 4), np.float32)
    measured = measured_once(images, recipe) if once else None
    batches = Batches(images, recipe, partners, np.arange(9, dtype=np.int32), measured, begun=begun)
    inputs, targets = next(batches.held_out(np.arange(9), 9).as_numpy_iterator())
    pixels = source.images / np.float32(255)
    np.testing.assert_allclose(inputs[IMAGE], pixels, atol=1e-6)
    np.testing.assert_allclose(inputs[PARTNER], pixels[::-1], atol=1e-6)
    # The same view each time: epochs are compared by what comes of it.
    np.testing.assert_allclose(inputs[VIEW], pixels[:, :, ::-1], atol=1e-6)
    np.testing.assert_allclose(targets[GRADIENTS], oriented_gradients(pixels), atol=1e-4)
    np.testing.assert_allclose(targets[COLOURS], hsv_histogram(pixels), atol=1e-4)
    np.testing.assert_array_equal(targets[KEPT], begun)
    assert targets[PARTNERS].tolist() == targets[VIEWS].tolist() == targets[CLASSES].tolist() == list(range(9))
    assert targets.keys() == {PIXELS, GRADIENTS, COLOURS, KEPT, PARTNERS, VIEWS, CLASSES}
    altered, clean = next(batches.training(np.arange(9), 9, seed=0).as_numpy_iterator())
    order = clean[CLASSES]
    np.testing.assert_allclose(clean[PIXELS], pixels[order], atol=1e-6)
    # Altered or not, an image is to have the latent that it began with.
    np.testing.assert_array_equal(clean[KEPT], begun[order])
    # About half are spoiled; all partners are moved.
    assert 0 < (altered[IMAGE] != clean[PIXELS]).any(axis=(1, 2, 3)).sum() < 9
    assert (altered[PARTNER] != pixels[::-1][order]).any(axis=(1, 2, 3)).all()
    assert (altered[VIEW] != clean[PIXELS]).any(axis=(1, 2, 3)).all()


def test_histograms_are_measured_once_of_what_can_be_read_and_is_in_memory(monkeypatch):
    images = replace(readable_images(grey_source(9), (8, 8, 1)), positions=np.array([0, 3, 8]))
    at = np.array([8, 0, 3])
    found = measured_once(images, Recipe(gradients=1))(tf.constant(at), None)[GRADIENTS]
    expected = oriented_gradients(images.pixels[at] / np.float32(255))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert measured_once(images, Recipe()) is None
    assert measured_once(replace(images, pixels=None), Recipe(gradients=1)) is None
    monkeypatch.setattr("ae_search.training.measured_once.MOST_BYTES", 9 * 4 * GRADIENT_FLOATS - 1)
    assert measured_once(images, Recipe(gradients=1)) is None


def test_spoiled_images_are_to_be_given_back_as_they_were():
    images = readable_images(grey_source(30), (8, 8, 1))
    batches = Batches(images, Recipe(spoiled=1.0), None, np.zeros(30, np.int32))
    inputs, targets = next(batches.training(np.arange(30), 30, seed=0).as_numpy_iterator())
    known = {row.tobytes() for row in (images.pixels / np.float32(255))}
    assert {row.tobytes() for row in targets[PIXELS]} == known
    assert not known & {row.tobytes() for row in inputs[IMAGE]}


def test_the_graph_holds_no_copy_of_the_images():
    images = readable_images(grey_source(500), (8, 8, 1))
    partners = nearest_partners(images, [images.positions], seed=0)
    batches = Batches(images, Recipe(contrast=1.0), partners, np.zeros(500, np.int32))
    captured = batches.held_out(images.positions, 10)._input_dataset._map_func.function.graph.as_graph_def()
    assert captured.ByteSize() < images.pixels.nbytes


@pytest.mark.slow
def test_without_memory_an_image_is_its_own_partner(photos, tmp_path):
    source = open_source(str(photos))
    options = {"epochs": 1, "image_size": (16, 16), "latent_dim": 4, "batch_size": 8, "cache": "none"}
    config = configure(source, TrainingOptions(**options))
    assert config.recipe.partner == "view"
    assert np.isfinite(train(source, config, tmp_path / "run", verbose=False)["loss"])
    with pytest.raises(ConfigurationError, match="--partner neighbour needs the images in memory"):
        configure(source, TrainingOptions(partner="neighbour", **options))


def test_held_out_images_are_beside_the_same_partner_each_time(digits):
    images = readable_images(digits, digits.image_shape)
    partners = nearest_partners(images, [images.positions], seed=0)
    batches = Batches(images, Recipe(contrast=1.0, moved=0.5), partners, np.zeros(len(digits), np.int32))
    inputs, _ = next(batches.held_out(np.arange(50), 50).as_numpy_iterator())
    np.testing.assert_allclose(inputs[PARTNER], digits.images[partners[:50, 0]] / np.float32(255), atol=1e-6)
