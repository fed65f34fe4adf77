"""What `train` gives to `model.fit`, for those who measure `fit` itself."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ae_search.data import ArraySource, open_source
from ae_search.data.pipeline import Images, Positions, readable_images
from ae_search.data.sources import class_counts
from ae_search.training.callbacks import callbacks_for
from ae_search.training.config import TrainingConfig, configure
from ae_search.training.examples import Examples
from ae_search.training.fit import build_models, compile_trainer, whole_executions
from ae_search.training.partners import NEIGHBOURS, nearest_partners
from ae_search.training.run_folder import prepare_run

Dataset = Any


@dataclass(frozen=True)
class Fitting:
    """A compiled trainer and its datasets.

    Attributes:
        config: The configuration.
        images: The images.
        autoencoder: Encoder and decoder.
        trainer: What is trained.
        examples: Makes the datasets.
        kept: Positions trained on.
        held_out: Positions held out.
        steps: Batches an epoch.
        at_once: Batches an execution.
        prepared_s: Seconds for reading the images and for finding partners.
    """

    config: TrainingConfig
    images: Images
    autoencoder: Any
    trainer: Any
    examples: Examples
    kept: Positions
    held_out: Positions
    steps: int
    at_once: int
    prepared_s: float

    def dataset(self) -> Dataset:
        """Return the dataset that is trained on, without end."""
        return self.examples.training(self.kept, self.config.batch_size, seed=self.config.seed)

    def fit(self, run: Path, epochs: int, more: Sequence[Any]) -> None:
        """Call `fit` as `train` does, with further callbacks.

        Args:
            run: An empty run folder.
            epochs: Epochs.
            more: The callbacks.
        """
        held_out = self.examples.held_out(self.held_out, self.config.batch_size) if len(self.held_out) else None
        monitor = "loss" if held_out is None else "val_loss"
        prepare_run(run, self.config)
        self.trainer.fit(
            self.dataset(),
            steps_per_epoch=self.steps,
            validation_data=held_out,
            epochs=epochs,
            shuffle=False,
            verbose=0,
            callbacks=callbacks_for(
                run, self.config, monitor, autoencoder=self.autoencoder, steps=self.steps, more=more
            ),
        )


def prepare(options: Mapping[str, Any], items: int | None, *, true_partners: bool = True) -> Fitting:
    """Do what `train` does before `fit`, for the training images of Fashion-MNIST.

    Args:
        options: What `configure` is told.
        items: How many of the images, the first ones; None for all.
        true_partners: Whether to look for each image's nearest neighbours. Partners at random take no time to find,
            and cost the same afterwards.
    """
    source = open_source("fashion_mnist/train")
    assert isinstance(source, ArraySource)
    source = replace(source, images=source.images[:items], labels=source.labels[:items])
    config = configure(source, **options)
    keras.utils.set_random_seed(config.seed)
    began = time.perf_counter()
    images = readable_images(source, config.image_shape, cache=config.cache)
    shuffled = np.random.default_rng(config.seed).permutation(images.positions)
    count = int(len(shuffled) * config.validation)
    kept, held_out = np.sort(shuffled[count:]), np.sort(shuffled[:count])
    partners = None
    if config.recipe.contrast and config.recipe.partner == "neighbour":
        if true_partners:
            partners = nearest_partners(images, [kept, held_out], seed=config.seed)
        else:
            shape = (len(source), NEIGHBOURS)
            partners = np.random.default_rng(config.seed).integers(len(source), size=shape).astype(np.int32)
    prepared_s = time.perf_counter() - began
    examples = Examples(images, config.recipe, partners, np.zeros(len(source), np.int32))
    autoencoder, trainer = build_models(config, classes=len(class_counts(source)))
    steps, at_once = whole_executions(math.ceil(len(kept) / config.batch_size))
    compile_trainer(trainer, config, at_once)
    return Fitting(config, images, autoencoder, trainer, examples, kept, held_out, steps, at_once, prepared_s)
