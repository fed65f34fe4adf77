"""The ingredients of a recipe, each by itself."""

import csv
import json
import math
from dataclasses import asdict, replace

import keras
import numpy as np
import pytest

from ae_search.data import ArraySource
from ae_search.data.random_alterations import moved
from ae_search.errors import ConfigurationError
from ae_search.model.heads import CLASSES, IMAGE, PARTNER, PARTNERS, PIXELS, TEMPERATURE, VIEW, VIEWS
from ae_search.model.parts import copies_from
from ae_search.training import TrainingOptions, configure, load_autoencoder, train
from ae_search.training.callbacks import _Cosine, _TimeLimit
from ae_search.training.compiling import compile_trainer
from ae_search.training.fit import fit
from ae_search.training.preparation import build_models, prepare, whole_executions
from ae_search.training.run_folder import prepare_run


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


def test_similarities_are_cosines_of_latents_and_partners(digits):
    config = configure(digits, TrainingOptions(latent_dim=4))
    autoencoder, trainer = build_models(config, classes=0)
    images, others = np.random.default_rng(0).random((2, 5, 8, 8, 1), np.float32)
    a, b = (np.asarray(autoencoder.get_layer("encoder")(part)) for part in (images, others))
    cosines = (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T
    found = trainer({IMAGE: images, PARTNER: others})
    np.testing.assert_allclose(found[PARTNERS], cosines / TEMPERATURE, atol=1e-4)
    np.testing.assert_allclose(found[PIXELS], autoencoder(images), atol=1e-5)


def test_the_last_floats_are_compared_with_those_of_a_view(digits):
    config = configure(digits, TrainingOptions(latent_dim=16, copies_part=True, copies=1.0))
    autoencoder, trainer = build_models(config, classes=0)
    images, others, views = np.random.default_rng(0).random((3, 5, 8, 8, 1), np.float32)
    first = copies_from(encoder := autoencoder.get_layer("encoder"))
    found = trainer({IMAGE: images, PARTNER: others, VIEW: views})
    # What is to be the same of neighbours, and what is not.
    for name, second, part in ((PARTNERS, others, slice(first)), (VIEWS, views, slice(first, None))):
        a, b = (np.asarray(encoder(some))[:, part] for some in (images, second))
        cosines = (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T
        np.testing.assert_allclose(found[name], cosines / TEMPERATURE, atol=1e-4)


@pytest.mark.slow
def test_what_tells_copies_learns_to_recognise_altered_views(digits, tmp_path):
    options = {"copies_part": True, "gradients": 0.0, "epochs": 6, "latent_dim": 32, "batch_size": 64}
    for copies in (1.0, 0.0):
        config = configure(digits, TrainingOptions(copies=copies, **options))
        train(digits, config, tmp_path / f"{copies}", verbose=False)
    losses = [float(row["views_loss"]) for row in rows_of(tmp_path / "1.0")]
    assert losses[-1] < 0.7 * losses[0]
    images, shares = digits.images[:200] / np.float32(255), []
    views = np.asarray(altered_views(images))
    for run in ("1.0", "0.0"):
        encoder = load_autoencoder(tmp_path / run).get_layer("encoder")
        first = copies_from(encoder)
        a, b = (np.asarray(encoder(part))[:, first:] for part in (views, images))
        shares.append(float(((a @ b.T).argmax(axis=1) == np.arange(200)).mean()))
    assert shares[0] > 1.2 * shares[1]


def altered_views(images):
    keras.utils.set_random_seed(3)
    return moved(images, 1.0)


def test_images_without_labels_do_not_count_for_the_classes(digits):
    config = configure(digits, TrainingOptions(latent_dim=4, labels=1.0, contrast=0.0, gradients=0.0))
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
    config = configure(digits, TrainingOptions(latent_dim=4, epochs=1, labels=1.0))
    trainer = (prepared := prepare(digits, config)).trainer

    def variables():
        return {id(one) for one in (*trainer.variables, *trainer.optimizer.variables, *trainer.metrics_variables)}

    before = variables()
    prepare_run(tmp_path / "run", config)
    fit(prepared, tmp_path / "run", verbose=False)
    assert variables() == before


def test_every_ingredient_trains_and_the_heads_are_dropped(digits, tmp_path):
    options = {"labels": 1.0, "moved": 0.2, "spoiled": 0.3, "partner": "view", "validation": 0.25}
    config = configure(digits, TrainingOptions(epochs=2, latent_dim=4, batch_size=64, **options))
    summary = train(digits, config, tmp_path / "run", verbose=False, report_precision=True)
    rows = rows_of(tmp_path / "run")
    assert {"gradients_loss", "partners_loss", "classes_loss", "pixels_loss", "val_precision_at_10"} <= rows[0].keys()
    assert all(0 < float(row["val_precision_at_10"]) <= 1 for row in rows)
    assert summary["loss"] == pytest.approx(float(rows[-1]["pixels_loss"]))
    autoencoder = load_autoencoder(tmp_path / "run")
    assert [layer.name for layer in autoencoder.layers] == ["image", "encoder", "decoder"]
    latents = np.asarray(autoencoder.get_layer("encoder")(digits.images / np.float32(255)))
    assert abs(np.corrcoef(latents.T) - np.eye(4)).max() < 0.2


@pytest.fixture
def coloured(digits):
    tints = np.random.default_rng(0).random((64, 1, 1, 3))
    images = (np.repeat(digits.images[:64], 3, axis=3) * tints).astype(np.uint8)
    return replace(digits, images=images, labels=digits.labels[:64])


def test_images_in_colour_have_a_decoder_of_colours(coloured, tmp_path):
    train(coloured, configure(coloured, TrainingOptions(epochs=1, latent_dim=4)), tmp_path / "run", verbose=False)
    row = rows_of(tmp_path / "run")[0]
    assert float(row["colours_loss"]) > 0
    assert 0 < float(row["kept_loss"]) < 1


@pytest.mark.parametrize(("kept", "least", "most"), [(1000.0, 0.93, 1.0), (0.0, -1.0, 0.9)])
@pytest.mark.slow
def test_the_training_keeps_what_the_latents_began_as(coloured, kept, least, most):
    config = configure(coloured, TrainingOptions(epochs=12, latent_dim=8, kept=kept, learning_rate=0.01))
    prepared = prepare(coloured, config)
    encoder = prepared.autoencoder.get_layer("encoder")
    images = coloured.images / np.float32(255)
    before = np.asarray(encoder(images))
    prepared.trainer.fit(prepared.dataset(), steps_per_epoch=prepared.steps, epochs=12, shuffle=False, verbose=0)
    after = np.asarray(encoder(images))
    cosines = (before * after).sum(axis=1) / np.linalg.norm(before, axis=1) / np.linalg.norm(after, axis=1)
    assert least <= np.median(cosines) <= most


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
        {"contrast": 0.0, "moved": 0.2}, {"architecture": "conv", "from_components": True}, {"kept": -1.0},
        {"kept": 1.0, "from_components": False}, {"kept": 1.0, "architecture": "conv"}, {"copies": 1.0},
        {"patches": -1}, {"patches": 2000}, {"patches": 4, "architecture": "conv"},
        {"copies": 1.0, "copies_part": True, "latent_dim": 8}, {"copies": -1.0, "copies_part": True},
    ],
)  # fmt: skip
def test_wrong_ingredients_fail_before_any_work(digits, wrong):
    with pytest.raises(ConfigurationError):
        configure(digits, TrainingOptions(**wrong))


def test_what_cannot_work_is_left_out(digits, coloured):
    assert configure(digits).recipe.moved > 0
    assert configure(digits, TrainingOptions(contrast=0.0)).recipe.moved == 0
    assert configure(digits).recipe.from_components
    assert not configure(digits, TrainingOptions(architecture="conv")).recipe.from_components
    for options in ({"architecture": "conv"}, {"from_components": False}):
        recipe = configure(coloured, TrainingOptions(**options)).recipe
        assert (recipe.from_components, recipe.kept, recipe.scaled) == (False, 0.0, True)


def test_the_part_that_tells_copies_is_trained_where_images_are_grey(digits, coloured):
    grey, colour = (configure(source, TrainingOptions(copies_part=True)).recipe for source in (digits, coloured))
    assert (grey.copies_part, grey.copies, grey.scaled) == (True, 1.0, True)
    assert (colour.copies_part, colour.copies, colour.scaled) == (True, 0.0, False)
    assert configure(digits, TrainingOptions(copies_part=True, copies=0.0)).recipe.copies == 0
    assert not configure(digits).recipe.copies_part


def test_the_long_recipe_takes_twice_the_epochs_and_patches(digits):
    default, long = (configure(digits, TrainingOptions(recipe=name)) for name in ("default", "long"))
    assert long.epochs == 2 * default.epochs
    assert long.recipe == replace(default.recipe, patches=long.recipe.patches)
    assert long.recipe.patches > 0 == default.recipe.patches
    asked = configure(digits, TrainingOptions(recipe="long", epochs=2, patches=5))
    assert (asked.epochs, asked.recipe.patches) == (2, 5)


@pytest.mark.parametrize("wrong", [{"recipe": "quick"}, {"recipe": "long", "architecture": "conv"}])
def test_there_is_no_other_recipe_and_not_for_all(digits, coloured, wrong):
    with pytest.raises(ConfigurationError, match="--recipe"):
        configure(digits, TrainingOptions(**wrong))
    with pytest.raises(ConfigurationError, match="--recipe long is for grey images.*channels=3"):
        configure(coloured, TrainingOptions(recipe="long"))


@pytest.mark.slow
def test_the_loss_of_the_pixels_is_told_without_its_weight(digits, tmp_path):
    config = configure(digits, TrainingOptions(epochs=1, latent_dim=4, pixels=1000.0, gradients=0.0, contrast=0.0))
    assert 0.1 < train(digits, config, tmp_path / "run", verbose=False)["loss"] < 1


def test_what_needs_labels_says_so_before_any_work(tmp_path):
    source = ArraySource("grey", np.zeros((20, 8, 8, 1), np.uint8), [None] * 20)
    with pytest.raises(ConfigurationError, match="needs images with labels"):
        configure(source, TrainingOptions(labels=1.0))
    with pytest.raises(ConfigurationError, match="--report-precision needs images with labels.*grey with 0 classes"):
        train(source, configure(source, TrainingOptions(validation=0.5)), tmp_path / "run", report_precision=True)
    assert not (tmp_path / "run").exists()


def test_precision_needs_images_held_out(digits, tmp_path):
    with pytest.raises(ConfigurationError, match="--validation 0"):
        train(digits, configure(digits, TrainingOptions(validation=0.0)), tmp_path / "run", report_precision=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("options", [{"image_size": (0, 64)}, {"channels": 0}])
def test_images_without_pixels_are_refused(digits, options):
    with pytest.raises(ConfigurationError, match=r"must be (8|1)"):
        configure(digits, TrainingOptions(**options))


def test_batches_of_a_pass_are_equally_large(digits):
    """A small rest, of one image for example, would be worth as much to the optimiser as a whole batch."""
    few = replace(digits, images=digits.images[:270], labels=digits.labels[:270])
    prepared = prepare(few, configure(few, TrainingOptions(latent_dim=4, contrast=0.0, batch_size=256)))
    assert (len(prepared.kept), prepared.steps, prepared.batch_size) == (257, 2, 129)
    sizes = [len(targets[PIXELS]) for _, targets in prepared.dataset().take(5).as_numpy_iterator()]
    assert sizes == [129] * 5


@pytest.mark.slow
def test_fewer_epochs_change_nothing_of_a_finished_run(digits, tmp_path):
    options = {"latent_dim": 4, "contrast": 0.0}
    run = tmp_path / "run"
    done = train(digits, configure(digits, TrainingOptions(epochs=2, **options)), run, verbose=False)
    before = (run / "config.json").read_bytes()
    assert train(digits, configure(digits, TrainingOptions(epochs=1, **options)), run, verbose=False) == done
    assert (run / "config.json").read_bytes() == before


def test_a_run_of_another_version_is_not_called_damaged(digits, tmp_path):
    config = asdict(configure(digits, TrainingOptions(latent_dim=4)))
    config["recipe"]["salt"] = 1.0
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigurationError, match="another version of ae-search"):
        prepare_run(tmp_path, configure(digits, TrainingOptions(latent_dim=4)))


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


@pytest.mark.slow
def test_more_time_trains_on(digits, tmp_path):
    run = tmp_path / "run"
    few = train(
        digits, configure(digits, TrainingOptions(epochs=50, latent_dim=4, time_limit_s=0.001)), run, verbose=False
    )
    again = train(
        digits, configure(digits, TrainingOptions(epochs=50, latent_dim=4, time_limit_s=0.001)), run, verbose=False
    )
    assert few == again
    more = configure(digits, TrainingOptions(epochs=50, latent_dim=4, time_limit_s=few["seconds"] + 1.0))
    assert train(digits, more, run, verbose=False)["epochs"] > few["epochs"] == 1
