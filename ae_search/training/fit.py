"""Train an autoencoder on a source with `model.fit`."""

import csv
import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ae_search.data import Source
from ae_search.data.pipeline import Images, Positions, readable_images
from ae_search.data.sources import class_counts, summary
from ae_search.files import write_atomically
from ae_search.model import build_autoencoder, build_decoder, build_encoder
from ae_search.model.heads import CLASSES, COLOURS, GRADIENTS, PARTNERS, PIXELS, build_head, build_trainer
from ae_search.model.histograms import COLOUR_FLOATS, GRADIENT_FLOATS
from ae_search.training.callbacks import EPOCHS, callbacks_for
from ae_search.training.config import TrainingConfig
from ae_search.training.examples import NO_CLASS, Examples
from ae_search.training.partners import nearest_partners
from ae_search.training.precision import PrecisionOfSample
from ae_search.training.run_folder import prepare_run
from ae_search.training.scaling import scale_latents

log = logging.getLogger(__name__)

# Batches that one call into TensorFlow runs: worth up to 2x for small batches on a loaded machine.
STEPS_PER_EXECUTION = range(8, 33)
# Latents that the scaling is computed from, at most.
SCALED_BY = 20_000


def train(
    source: Source, config: TrainingConfig, run: Path, *, verbose: bool = True, report_precision: bool = False
) -> dict[str, Any]:
    """Train, or go on where a training in `run` was killed.

    Args:
        source: The images.
        config: What to do; a run that was begun can only be continued with the same, or with more epochs.
        run: The run folder.
        verbose: Show Keras's progress bar.
        report_precision: After each epoch, add precision@10 of a sample of the images held out to the history.

    Returns:
        The summary, as in summary.json: epochs, seconds, loss (mean sigmoid cross-entropy a pixel value in the last
        epoch), best_loss, monitor, images, held_out, damaged.

    Raises:
        ConfigurationError: `run` belongs to something else, or no image can be read.
    """
    finished = prepare_run(run, config)
    if finished is not None:
        log.info("%s is trained already: %d epochs", run, finished["epochs"])
        return finished
    keras.utils.set_random_seed(config.seed)
    images = readable_images(source, config.image_shape, cache=config.cache)
    kept, held_out = _split(images, config)
    monitor = "val_loss" if len(held_out) else "loss"
    examples = _examples(images, kept, held_out, config)
    autoencoder, trainer = build_models(config, classes=len(class_counts(source)))
    steps, at_once = whole_executions(math.ceil(len(kept) / config.batch_size))
    compile_trainer(trainer, config, at_once)
    sample = [PrecisionOfSample(autoencoder, images, kept, held_out)] if report_precision else []
    trainer.fit(
        examples.training(kept, config.batch_size, seed=config.seed),
        steps_per_epoch=steps,
        **_validation(examples, held_out, config.batch_size),
        epochs=config.epochs,
        shuffle=False,  # the dataset shuffles
        verbose=1 if verbose else 0,
        callbacks=callbacks_for(run, config, monitor, autoencoder=autoencoder, steps=steps, more=sample),
    )
    _finish(run, config, images, kept)
    return _summarise(run, config, images, len(held_out))


def whole_executions(steps: int) -> tuple[int, int]:
    """Return the batches of an epoch, rounded up to whole executions, and the batches of each.

    Keras runs whole executions only; of 8 to 32 batches, the size is taken that adds least.
    """
    if steps <= STEPS_PER_EXECUTION[-1]:
        return steps, steps
    at_once = min(STEPS_PER_EXECUTION, key=lambda size: (-steps % size, -size))
    return steps + -steps % at_once, at_once


def build_models(config: TrainingConfig, *, classes: int) -> tuple[Any, Any]:
    """Build the autoencoder and the trainer, which holds it and what only the training needs."""
    shape, dim, recipe = config.image_shape, config.latent_dim, config.recipe
    encoder = build_encoder(shape, architecture=config.architecture, latent_dim=dim)
    decoder = build_decoder(shape, architecture=config.architecture, latent_dim=dim)
    floats = {GRADIENTS: GRADIENT_FLOATS, COLOURS: COLOUR_FLOATS, CLASSES: classes}
    wanted = {GRADIENTS: recipe.gradients, COLOURS: recipe.colours, CLASSES: recipe.labels}
    heads = {name: build_head(dim, floats[name], name=name) for name, weight in wanted.items() if weight}
    trainer = build_trainer(encoder, decoder, heads, partners=recipe.contrast > 0)
    return build_autoencoder(encoder, decoder), trainer


def compile_trainer(trainer: Any, config: TrainingConfig, steps_per_execution: int) -> None:
    """Give the trainer its losses, their weights and the optimiser."""
    recipe = config.recipe
    losses: dict[str, tuple[float, Callable[[], Any]]] = {
        PIXELS: (recipe.pixels, lambda: keras.losses.BinaryCrossentropy(from_logits=True)),
        GRADIENTS: (recipe.gradients, keras.losses.MeanSquaredError),
        COLOURS: (recipe.colours, keras.losses.MeanSquaredError),
        PARTNERS: (recipe.contrast, lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True)),
        CLASSES: (
            recipe.labels,
            lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=NO_CLASS),
        ),
    }
    trainer.compile(
        optimizer=keras.optimizers.Adam(config.learning_rate),
        loss={name: losses[name][1]() for name in trainer.output},
        loss_weights={name: losses[name][0] for name in trainer.output},
        steps_per_execution=steps_per_execution,
    )


def _validation(examples: Examples, held_out: Positions, batch_size: int) -> dict[str, Any]:
    """Return what `fit` is told about validation."""
    if not len(held_out):
        return {}
    batches = examples.held_out(held_out, batch_size)
    if examples.images.pixels is not None:
        return {"validation_data": batches}
    # Of files Keras cannot know how many can be read; it wants steps, and rounds them up to whole executions.
    return {"validation_data": batches.repeat(), "validation_steps": math.ceil(len(held_out) / batch_size)}


def _split(images: Images, config: TrainingConfig) -> tuple[Positions, Positions]:
    """Return the positions to train on and those held out."""
    shuffled = np.random.default_rng(config.seed).permutation(images.positions)
    count = int(len(shuffled) * config.validation)
    return np.sort(shuffled[count:]), np.sort(shuffled[:count])


def _examples(images: Images, kept: Positions, held_out: Positions, config: TrainingConfig) -> Examples:
    recipe = config.recipe
    partners = None
    if recipe.contrast and recipe.partner == "neighbour":
        if images.pixels is None:
            log.warning("the images are not kept in memory: each is its own partner, as with partner=view")
        else:
            partners = nearest_partners(images, [kept, held_out], seed=config.seed)
    number = {label: at for at, label in enumerate(class_counts(images.source))}
    classes = np.array([number.get(label, NO_CLASS) for label in images.source.labels], np.int32)  # type: ignore[arg-type]
    return Examples(images, recipe, partners, classes)


def _finish(run: Path, config: TrainingConfig, images: Images, kept: Positions) -> None:
    """Write best.keras and last.keras, scaled where the recipe says so."""
    sample = np.random.default_rng(config.seed).permutation(kept)[:SCALED_BY]
    for name in ("best.keras", "last.keras"):
        autoencoder = keras.models.load_model(run / EPOCHS / name, compile=False)
        if config.recipe.scaled:
            scale_latents(autoencoder, images.encoded(autoencoder.get_layer("encoder"), np.sort(sample)))
        write_atomically(run / name, autoencoder.save)


def _summarise(run: Path, config: TrainingConfig, images: Images, held_out: int) -> dict[str, Any]:
    monitor = "val_loss" if held_out else "loss"
    with (run / "history.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    last = rows[-1]
    result = {
        "epochs": len(rows),
        "seconds": round(sum(float(row["seconds"]) for row in rows), 1),
        "loss": float(last.get(f"{PIXELS}_loss") or last["loss"]),
        "best_loss": min(float(row[monitor]) for row in rows),
        "monitor": monitor,
        "time_limit_s": config.time_limit_s,
        "images": len(images) - held_out,
        "held_out": held_out,
        "damaged": images.damaged,
        "data": summary(images.source),
    }
    write_atomically(run / "summary.json", json.dumps(result, indent=2))
    return result
