"""Train an autoencoder on a source with `model.fit`."""

import csv
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ae_search.data import Source
from ae_search.data.pipeline import first_images
from ae_search.data.sources import summary
from ae_search.files import write_atomically
from ae_search.model.heads import PIXELS
from ae_search.training.callbacks import EPOCHS, best_of, callbacks_for, finished_epochs
from ae_search.training.config import TrainingConfig
from ae_search.training.devices import check_devices
from ae_search.training.observations import FOLDER as OBSERVED
from ae_search.training.observations import Progress, no_progress
from ae_search.training.precision_callback import PrecisionOfSample, check_labels
from ae_search.training.preparation import Prepared, prepare
from ae_search.training.run_folder import prepare_run, write_errors
from ae_search.training.scaling import scale_latents

log = logging.getLogger(__name__)

# Below so many images a training says that they are few.
FEW = 100
# Latents that the scaling is computed from, at most.
SCALED_BY = 20_000


def train(
    source: Source,
    config: TrainingConfig,
    run: Path,
    *,
    verbose: bool = True,
    report_precision: bool = False,
    strict: bool = False,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Train, or go on where a training in `run` was killed.

    Args:
        source: The images.
        config: What to do; a run that was begun can only be continued with the same, or with more epochs.
        run: The run folder.
        verbose: Log a line after each epoch: losses, and the time that is left.
        report_precision: After each epoch, add precision@10 of a sample of the images held out to the history.
        strict: Whether JPEG files that are cut short count as damaged; else the part that is there is learned from.
        progress: Shows how far a backbone is that looks at the images, before the training.

    Returns:
        The summary, as in summary.json: epochs, seconds, loss (mean sigmoid cross-entropy a pixel value in the last
        epoch), best_epoch (from 1), best_loss, monitor, devices, images, held_out, damaged, truncated.

    Raises:
        ConfigurationError: `run` belongs to something else, there are fewer devices, no image can be read, a backbone
            has changed, or precision is to be reported and there are no labels or no images held out.
    """
    # Before there is a run folder: what cannot work leaves none behind.
    check_devices(config.devices)
    first_images(source, config.image_shape, 1, fit=config.fit)
    if report_precision:
        check_labels(source, config)
    with write_errors(run):
        finished = prepare_run(run, config)
    if finished is not None:
        log.info("%s is trained already: %d epochs", run, finished["epochs"])
        return finished
    with write_errors(run):
        prepared = prepare(source, config, strict=strict, observed=run / OBSERVED, progress=progress)
    _say_what_begins(prepared)
    sample = (
        [PrecisionOfSample(prepared.autoencoder, prepared.seen, prepared.kept, prepared.held_out)]
        if report_precision
        else []
    )
    with write_errors(run):
        fit(prepared, run, verbose=verbose, more=sample)
        _finish(prepared, run)
        return _summarise(prepared, run)


def _say_what_begins(prepared: Prepared) -> None:
    count = len(prepared.images)
    log.info("training on %d images, %d more are held out", len(prepared.kept), len(prepared.held_out))
    if count < FEW:
        log.warning(
            "%d images are few to train on, and what is learned from them may find little; take %d or more, or export "
            "an encoder that was trained on others (`ae-search export --encoder`)",
            count,
            FEW,
        )


def fit(prepared: Prepared, run: Path, *, verbose: bool, more: Sequence[Any] = ()) -> None:
    """Call `fit` with the callbacks of a run folder.

    Args:
        prepared: What is trained, and by what.
        run: A run folder, prepared for the same configuration.
        verbose: Log a line after each epoch.
        more: Callbacks that add figures to the history.
    """
    monitor = _monitor(prepared)
    if best_of(finished_epochs(run), monitor).exhausts(prepared.config.patience):
        return  # killed after its last epoch
    prepared.trainer.fit(
        prepared.dataset(),
        steps_per_epoch=prepared.steps,
        **prepared.validation(),
        epochs=prepared.config.epochs,
        shuffle=False,  # the dataset shuffles
        verbose=0,  # its bar would fill a log, and tell nothing of the epochs to come
        callbacks=callbacks_for(
            run,
            prepared.config,
            monitor,
            autoencoder=prepared.autoencoder,
            steps=prepared.steps,
            more=more,
            verbose=verbose,
        ),
    )


def _monitor(prepared: Prepared) -> str:
    """Return what the best weights are chosen by."""
    return "val_loss" if len(prepared.held_out) else "loss"


def _finish(prepared: Prepared, run: Path) -> None:
    """Write best.keras and last.keras, scaled where the recipe says so."""
    config = prepared.config
    sample = np.random.default_rng(config.seed).permutation(prepared.kept)[:SCALED_BY]
    for name in ("best.keras", "last.keras"):
        autoencoder = keras.models.load_model(run / EPOCHS / name, compile=False)
        if config.recipe.scaled:
            scale_latents(autoencoder, lambda model: prepared.seen.encoded(model, np.sort(sample)))
        write_atomically(run / name, prepared.whole(autoencoder).save)


def _summarise(prepared: Prepared, run: Path) -> dict[str, Any]:
    images, held_out, monitor = prepared.images, len(prepared.held_out), _monitor(prepared)
    backbone = prepared.config.backbone
    with (run / "history.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    last, best = rows[-1], best_of(rows, monitor)
    result = {
        "epochs": len(rows),
        "best_epoch": best.epoch,
        "seconds": round(sum(float(row["seconds"]) for row in rows), 1),
        "loss": _loss_of_pixels(last, prepared.config),
        "best_loss": best.loss,
        "monitor": monitor,
        "time_limit_s": prepared.config.time_limit_s,
        "devices": prepared.config.devices,
        "images": len(images) - held_out,
        "held_out": held_out,
        "damaged": images.damaged,
        "truncated": images.truncated,
        "data": summary(images.source),
        "backbone": backbone.summary() if backbone else None,
    }
    write_atomically(run / "summary.json", json.dumps(result, indent=2))
    return result


def _loss_of_pixels(row: dict[str, str], config: TrainingConfig) -> float:
    """Return it without its weight; Keras has a column for each loss only where there are several."""
    return float(row.get(f"{PIXELS}_loss") or float(row["loss"]) / config.recipe.pixels)
