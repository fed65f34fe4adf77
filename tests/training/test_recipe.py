"""The ingredients of a recipe, each by itself."""

import csv
import math

import keras
import numpy as np
import pytest

from ae_search.data import ArraySource, open_source
from ae_search.data.pipeline import readable_images
from ae_search.errors import ConfigurationError
from ae_search.model import build_autoencoder, build_decoder, build_encoder
from ae_search.model.gradients import HIDDEN_UNITS
from ae_search.model.heads import CLASSES, COLOURS, GRADIENTS, IMAGE, PARTNER, PARTNERS, PIXELS, TEMPERATURE
from ae_search.model.histograms import cell_means, oriented_gradients
from ae_search.principal import fit_components
from ae_search.training import configure, load_autoencoder, train
from ae_search.training.callbacks import _Cosine, _TimeLimit
from ae_search.training.examples import Examples
from ae_search.training.fit import fit
from ae_search.training.partners import nearest_partners
from ae_search.training.preparation import build_models, compile_trainer, prepare, whole_executions
from ae_search.training.recipe import Recipe
from ae_search.training.run_folder import prepare_run
from ae_search.training.scaling import scale_latents
from ae_search.training.starting import start_from_components


@pytest.fixture(scope="module")
def digits():
    return open_source("digits/test")


def grey_source(count):
    return ArraySource("grey", np.random.default_rng(5).integers(0, 256, (count, 8, 8, 1), np.uint8), ["a"] * count)


def rows_of(run):
    with (run / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("steps", "expected"), [(1, (1, 1)), (32, (32, 32)), (48, (48, 24)), (223, (224, 32)), (150, (150, 30))]
)
def test_an_epoch_is_rounded_up_to_whole_executions(steps, expected):
    assert whole_executions(steps) == expected


def test_no_epoch_grows_by_more_than_three_in_a_hundred():
    for steps in range(1, 3000):
        rounded, at_once = whole_executions(steps)
        assert rounded % at_once == 0
        assert steps <= rounded <= 1.03 * steps


@pytest.mark.parametrize("architecture", ["gradients", "conv"])
def test_scaling_changes_the_latents_and_not_the_reconstruction(architecture):
    shape = (12, 12, 1)
    encoder = build_encoder(shape, architecture=architecture, latent_dim=6)
    autoencoder = build_autoencoder(encoder, build_decoder(shape, architecture=architecture, latent_dim=6))
    images = np.random.default_rng(0).random((500, *shape), np.float32)
    latents, logits = np.asarray(encoder(images)), np.asarray(autoencoder(images))
    scale_latents(autoencoder, latents)
    after = np.asarray(encoder(images), np.float64)
    np.testing.assert_allclose(autoencoder(images), logits, atol=1e-3)
    np.testing.assert_allclose(after.mean(axis=0), 0, atol=1e-4)
    # The covariance is diagonal, and its entries are the square roots of the eigenvalues before.
    values = np.sort(np.linalg.eigvalsh(np.cov(latents.T, bias=True)))[::-1]
    np.testing.assert_allclose(np.cov(after.T, bias=True), np.diag(np.sqrt(values)), atol=1e-3 * np.sqrt(values[0]))


def test_one_float_can_be_scaled():
    encoder = build_encoder((8, 8, 1), latent_dim=1)
    autoencoder = build_autoencoder(encoder, build_decoder((8, 8, 1), latent_dim=1))
    images = np.random.default_rng(0).random((50, 8, 8, 1), np.float32)
    logits = np.asarray(autoencoder(images))
    scale_latents(autoencoder, np.asarray(encoder(images)))
    np.testing.assert_allclose(autoencoder(images), logits, atol=1e-3)


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


def test_one_image_alone_is_its_own_partner():
    images = readable_images(grey_source(1), (8, 8, 1))
    assert nearest_partners(images, [np.arange(1), np.arange(0)], seed=0).tolist() == [[0] * 5]


def test_examples_ask_for_what_the_recipe_names():
    source = ArraySource("colour", np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), np.uint8), ["a"] * 9)
    keras.utils.set_random_seed(0)
    images = readable_images(source, (8, 8, 3))
    recipe = Recipe(gradients=1, colours=1, contrast=1, labels=1, moved=0.5, spoiled=0.5)
    partners = np.tile(np.arange(9, dtype=np.int32)[::-1, None], 5)
    examples = Examples(images, recipe, partners, np.arange(9, dtype=np.int32))
    inputs, targets = next(examples.held_out(np.arange(9), 9).as_numpy_iterator())
    pixels = source.images / np.float32(255)
    np.testing.assert_allclose(inputs[IMAGE], pixels, atol=1e-6)
    np.testing.assert_allclose(inputs[PARTNER], pixels[::-1], atol=1e-6)
    np.testing.assert_allclose(targets[GRADIENTS], oriented_gradients(pixels), atol=1e-4)
    assert targets[PARTNERS].tolist() == targets[CLASSES].tolist() == list(range(9))
    assert targets.keys() == {PIXELS, GRADIENTS, COLOURS, PARTNERS, CLASSES}
    altered, clean = next(examples.training(np.arange(9), 9, seed=0).as_numpy_iterator())
    order = clean[CLASSES]
    np.testing.assert_allclose(clean[PIXELS], pixels[order], atol=1e-6)
    # About half are spoiled; all partners are moved.
    assert 0 < (altered[IMAGE] != clean[PIXELS]).any(axis=(1, 2, 3)).sum() < 9
    assert (altered[PARTNER] != pixels[::-1][order]).any(axis=(1, 2, 3)).all()


def test_spoiled_images_are_to_be_given_back_as_they_were():
    images = readable_images(grey_source(30), (8, 8, 1))
    examples = Examples(images, Recipe(spoiled=1.0), None, np.zeros(30, np.int32))
    inputs, targets = next(examples.training(np.arange(30), 30, seed=0).as_numpy_iterator())
    known = {row.tobytes() for row in (images.pixels / np.float32(255))}
    assert {row.tobytes() for row in targets[PIXELS]} == known
    assert not known & {row.tobytes() for row in inputs[IMAGE]}


def test_latents_begin_as_components_of_what_is_measured(digits):
    config = configure(digits, latent_dim=16)
    images = readable_images(digits, config.image_shape)
    autoencoder, _ = build_models(config, classes=0)
    encoder = autoencoder.get_layer("encoder")
    start_from_components(encoder, images, np.arange(100), seed=0)
    latents = encoder.get_layer("latents")
    kernel, bias = latents.get_weights()
    kernel[:HIDDEN_UNITS] = 0
    latents.set_weights([kernel, bias])
    pixels = digits.images[:100] / np.float32(255)
    measured = np.concatenate([oriented_gradients(pixels), cell_means(pixels)], axis=1)
    expected = fit_components(lambda: iter([measured]), 16, seed=0).of(measured)
    np.testing.assert_allclose(encoder(pixels), expected, atol=1e-3)


@pytest.mark.parametrize("count", [1, 3])
def test_few_images_begin_with_the_components_that_they_span(digits, count):
    config = configure(digits, latent_dim=16)
    images = readable_images(digits, config.image_shape)
    encoder = build_encoder(config.image_shape, architecture="gradients", latent_dim=16)
    before = encoder.get_layer("latents").kernel.numpy()
    start_from_components(encoder, images, np.arange(count), seed=0)
    changed = (encoder.get_layer("latents").kernel.numpy() != before).any(axis=0)
    assert changed.tolist() == [True] * max(1, count - 1) + [False] * (16 - max(1, count - 1))
    assert np.isfinite(encoder(digits.images[:9] / np.float32(255))).all()


def test_an_encoder_that_measures_nothing_begins_at_random(digits):
    images = readable_images(digits, (8, 8, 1))
    encoder = build_encoder((8, 8, 1), architecture="conv", latent_dim=8)
    before = encoder.get_weights()
    start_from_components(encoder, images, np.arange(9), seed=0)
    assert all(np.array_equal(*both) for both in zip(before, encoder.get_weights(), strict=True))


def test_similarities_are_cosines_of_latents_and_partners(digits):
    config = configure(digits, latent_dim=4)
    autoencoder, trainer = build_models(config, classes=0)
    images, others = np.random.default_rng(0).random((2, 5, 8, 8, 1), np.float32)
    a, b = (np.asarray(autoencoder.get_layer("encoder")(part)) for part in (images, others))
    cosines = (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T
    found = trainer({IMAGE: images, PARTNER: others})
    np.testing.assert_allclose(found[PARTNERS], cosines / TEMPERATURE, atol=1e-4)
    np.testing.assert_allclose(found[PIXELS], autoencoder(images), atol=1e-5)


def test_images_without_labels_do_not_count_for_the_classes(digits):
    config = configure(digits, latent_dim=4, labels=1.0, contrast=0.0, gradients=0.0)
    _, trainer = build_models(config, classes=10)
    compile_trainer(trainer, config, 1)
    images = np.random.default_rng(0).random((6, 8, 8, 1), np.float32)
    some, none = np.array([3, -1, 4, -1, -1, 0], np.int32), np.full(6, -1, np.int32)

    def loss(classes, chosen=slice(None)):
        targets = {PIXELS: images[chosen], CLASSES: classes[chosen]}
        return trainer.evaluate({IMAGE: images[chosen]}, targets, verbose=0, return_dict=True)["classes_loss"]

    assert loss(some) == pytest.approx(loss(some, [0, 2, 5]), rel=1e-4)
    assert loss(none) == 0


def test_fit_finds_all_variables_made(digits, tmp_path):
    """Where the first batch makes some, Keras traces the training twice, which takes seconds."""
    config = configure(digits, latent_dim=4, epochs=1, labels=1.0)
    prepared = prepare(digits, config)
    before = {id(variable) for variable in (*prepared.trainer.variables, *prepared.trainer.optimizer.variables)}
    prepare_run(tmp_path / "run", config)
    fit(prepared, tmp_path / "run", verbose=False)
    assert {id(variable) for variable in (*prepared.trainer.variables, *prepared.trainer.optimizer.variables)} == before


def test_every_ingredient_trains_and_the_heads_are_dropped(digits, tmp_path):
    options = {"labels": 1.0, "moved": 0.2, "spoiled": 0.3, "partner": "view", "validation": 0.25}
    config = configure(digits, epochs=2, latent_dim=4, batch_size=64, **options)
    summary = train(digits, config, tmp_path / "run", verbose=False, report_precision=True)
    rows = rows_of(tmp_path / "run")
    assert {"gradients_loss", "partners_loss", "classes_loss", "pixels_loss", "val_precision_at_10"} <= rows[0].keys()
    assert all(0 < float(row["val_precision_at_10"]) <= 1 for row in rows)
    assert summary["loss"] == pytest.approx(float(rows[-1]["pixels_loss"]))
    autoencoder = load_autoencoder(tmp_path / "run")
    assert [layer.name for layer in autoencoder.layers] == ["image", "encoder", "decoder"]
    latents = np.asarray(autoencoder.get_layer("encoder")(digits.images / np.float32(255)))
    assert abs(np.corrcoef(latents.T) - np.eye(4)).max() < 0.2


def test_the_rate_falls_to_nothing_at_the_end():
    class Rate:
        value = 0.0

        def assign(self, value):
            self.value = value

    class Model:
        optimizer = type("Optimizer", (), {"learning_rate": Rate()})()

    cosine = _Cosine(0.5, epochs=4, steps=10, limit=None)
    cosine.set_model(Model())
    found = []
    for epoch, batch in ((0, 0), (2, 0), (3, 5), (4, 0)):
        cosine.on_epoch_begin(epoch)
        cosine.on_train_batch_begin(batch)
        found.append(Model.optimizer.learning_rate.value)
    assert found == pytest.approx([0.5, 0.25, 0.25 * (1 + math.cos(math.pi * 0.875)), 0.0])


@pytest.mark.parametrize(
    "wrong",
    [
        {"gradients": -1.0}, {"contrast": math.inf}, {"pixels": 0.0}, {"colours": 1.0}, {"partner": "friend"},
        {"moved": 1.5}, {"spoiled": -0.1}, {"schedule": "linear"}, {"architecture": "tutorial", "scaled": True},
    ],
)  # fmt: skip
def test_wrong_ingredients_fail_before_any_work(digits, wrong):
    with pytest.raises(ConfigurationError):
        configure(digits, **wrong)


def test_an_unknown_ingredient_is_a_mistake_of_the_programmer(digits):
    with pytest.raises(TypeError, match="salt"):
        configure(digits, salt=1.0)


def test_what_needs_labels_says_so_before_any_work(tmp_path):
    source = ArraySource("grey", np.zeros((20, 8, 8, 1), np.uint8), [None] * 20)
    with pytest.raises(ConfigurationError, match="needs images with labels"):
        configure(source, labels=1.0)
    with pytest.raises(ConfigurationError, match="precision@10 needs labelled images"):
        train(source, configure(source, validation=0.5), tmp_path / "run", report_precision=True)
    assert not (tmp_path / "run" / "history.csv").exists()


def test_the_rate_follows_the_time_limit_where_that_is_nearer():
    limit = _TimeLimit(100.0, spent_s=75.0)
    limit.on_epoch_begin(0)
    cosine = _Cosine(1.0, epochs=1000, steps=10, limit=limit)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam())
    cosine.set_model(model)
    cosine.on_epoch_begin(3)
    cosine.on_train_batch_begin(0)
    assert float(model.optimizer.learning_rate) == pytest.approx((1 + math.cos(math.pi * 0.75)) / 2, abs=0.01)


def test_more_time_trains_on(digits, tmp_path):
    run = tmp_path / "run"
    few = train(digits, configure(digits, epochs=50, latent_dim=4, time_limit_s=0.001), run, verbose=False)
    again = train(digits, configure(digits, epochs=50, latent_dim=4, time_limit_s=0.001), run, verbose=False)
    assert few == again
    more = configure(digits, epochs=50, latent_dim=4, time_limit_s=few["seconds"] + 1.0)
    prepare_run(run, more)  # the command line asks first
    assert train(digits, more, run, verbose=False)["epochs"] > few["epochs"] == 1


def test_the_graph_holds_no_copy_of_the_images():
    images = readable_images(grey_source(500), (8, 8, 1))
    partners = nearest_partners(images, [images.positions], seed=0)
    examples = Examples(images, Recipe(contrast=1.0), partners, np.zeros(500, np.int32))
    captured = examples.held_out(images.positions, 10)._input_dataset._map_func.function.graph.as_graph_def()
    assert captured.ByteSize() < images.pixels.nbytes


def test_equal_images_are_only_centred():
    encoder = build_encoder((8, 8, 1), latent_dim=3)
    autoencoder = build_autoencoder(encoder, build_decoder((8, 8, 1), latent_dim=3))
    images = np.zeros((5, 8, 8, 1), np.float32)
    scale_latents(autoencoder, np.asarray(encoder(images)))
    others = np.random.default_rng(0).random((5, 8, 8, 1), np.float32)
    assert np.abs(encoder(others)).max() < 1e3


def test_without_memory_an_image_is_its_own_partner(photos, tmp_path, caplog):
    source = open_source(str(photos))
    config = configure(source, epochs=1, image_size=(16, 16), latent_dim=4, batch_size=8, cache="none")
    assert config.recipe.partner == "neighbour"
    assert np.isfinite(train(source, config, tmp_path / "run", verbose=False)["loss"])
    assert "each is its own partner" in caplog.text
