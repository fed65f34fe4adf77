"""What has to be there before `fit`: images read, partners found, models built and compiled."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from ae_search.contract import Latents
from ae_search.data import Source
from ae_search.data.pipeline import Images, Positions, readable_images
from ae_search.data.sources import class_counts
from ae_search.model import build_autoencoder, build_decoder, build_encoder
from ae_search.model.heads import (
    CLASSES,
    COLOURS,
    FEATURES,
    GRADIENTS,
    build_head,
    build_trainer,
)
from ae_search.model.histograms import GRADIENT_FLOATS
from ae_search.model.hsv_histogram import hsv_floats
from ae_search.model.parts import copies_from
from ae_search.training.batches import NO_CLASS, Batches
from ae_search.training.behind_backbone import behind_backbone
from ae_search.training.compiling import compile_trainer
from ae_search.training.config import TrainingConfig
from ae_search.training.devices import for_one_device, scope_of
from ae_search.training.measured_once import measured_once
from ae_search.training.observations import Progress, no_progress
from ae_search.training.observed_batches import Measured, ObservedBatches
from ae_search.training.partners import nearest_partners
from ae_search.training.starting import start_from_components

# Batches that one call into TensorFlow runs: worth up to 2x for small batches on a loaded machine.
STEPS_PER_EXECUTION = range(8, 33)


@dataclass(frozen=True)
class Prepared:
    """All that `fit` is called with.

    Attributes:
        config: What to do.
        images: The images.
        kept: Positions trained on.
        held_out: Positions held out.
        batches: Makes the datasets.
        autoencoder: Encoder and decoder.
        trainer: The compiled model that is trained; it holds the autoencoder and what only the training needs.
        steps: Batches an epoch.
        at_once: Batches an execution.
        seen: What encodes the images at some positions.
        whole: Returns the autoencoder of images, from the one that is trained.
    """

    config: TrainingConfig
    images: Images
    kept: Positions
    held_out: Positions
    batches: Batches | ObservedBatches
    autoencoder: Any
    trainer: Any
    steps: int
    at_once: int
    seen: Images | Measured
    whole: Callable[[Any], Any]

    @property
    def batch_size(self) -> int:
        """Images a batch: as many as were asked for, or fewer, so that those of one pass are equally large.

        Each device has the same share of them, or their losses would not count alike.
        """
        size = math.ceil(len(self.kept) / math.ceil(len(self.kept) / self.config.batch_size))
        return size + -size % self.config.devices

    def dataset(self) -> Any:
        """Return the dataset that is trained on, without end."""
        return self.batches.training(self.kept, self.batch_size, seed=self.config.seed)

    def validation(self) -> dict[str, Any]:
        """Return what `fit` is told about validation."""
        if not len(self.held_out):
            return {}
        held_out = self.batches.held_out(self.held_out, self.config.batch_size)
        if self.images.pixels is not None or isinstance(self.batches, ObservedBatches):
            return {"validation_data": held_out}
        # Keras cannot know how many files can be read; it wants steps, and rounds them up to whole executions.
        steps = math.ceil(len(self.held_out) / self.config.batch_size)
        return {"validation_data": held_out.repeat(), "validation_steps": steps}


def prepare(
    source: Source,
    config: TrainingConfig,
    *,
    strict: bool = False,
    observed: Path | None = None,
    progress: Progress = no_progress,
) -> Prepared:
    """Read the images, find partners, build the models, let latents begin as components, compile.

    Args:
        source: The images.
        config: What to do.
        strict: Whether JPEG files that are cut short count as damaged.
        observed: Folder for what a backbone sees in the images; needed where there is one.
        progress: Shows how far the backbone is.

    Raises:
        ConfigurationError: No image can be read, there are fewer devices, or the backbone is not the one that the run
            began with.
    """
    keras.utils.set_random_seed(config.seed)
    scope = scope_of(config.devices)
    images = readable_images(source, config.image_shape, cache=config.cache, fit=config.fit, strict=strict)
    kept, held_out = _split(images, config)
    batches: Batches | ObservedBatches
    seen: Images | Measured = images
    whole: Callable[[Any], Any] = _as_it_is
    if config.backbone is None:
        with scope():
            autoencoder, trainer = build_models(config, classes=len(class_counts(source)))
        encoder = for_one_device(autoencoder.get_layer("encoder"))
        if config.recipe.from_components:
            start_from_components(encoder, images, kept, seed=config.seed)
        begun = _begun(encoder, images) if config.recipe.kept else None
        batches = _batches(images, (kept, held_out), config, begun)
    else:
        assert observed is not None
        classes = _classes(source)
        behind = behind_backbone(
            images, (kept, held_out), classes, config, observed=observed, progress=progress, scope=scope
        )
        kept, held_out, batches, seen, whole = behind.kept, behind.held_out, behind.batches, behind.seen, behind.whole
        floats = behind.floats | {CLASSES: len(class_counts(source))}
        with scope():
            trainer = _trainer(behind.encoder, behind.decoder, floats, config)
            autoencoder = build_autoencoder(behind.encoder, behind.decoder)
    steps, at_once = whole_executions(math.ceil(len(kept) / config.batch_size))
    if config.devices > 1:
        at_once = 1  # Keras cannot run several for several devices
    with scope():
        compile_trainer(trainer, config, at_once)
    return Prepared(config, images, kept, held_out, batches, autoencoder, trainer, steps, at_once, seen, whole)


def _as_it_is(autoencoder: Any) -> Any:
    return autoencoder


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
    shape, dim, architecture = config.image_shape, config.latent_dim, config.architecture
    assert architecture != "backbone"
    encoder = build_encoder(
        shape,
        architecture=architecture,
        latent_dim=dim,
        parts=config.recipe.copies_part,
        learned_copies=config.recipe.copies > 0,
        patches=config.recipe.patches,
    )
    decoder = build_decoder(shape, architecture=architecture, latent_dim=dim)
    floats = {GRADIENTS: GRADIENT_FLOATS, COLOURS: hsv_floats(), CLASSES: classes}
    trainer = _trainer(encoder, decoder, floats, config)
    return build_autoencoder(encoder, decoder), trainer


def _trainer(encoder: Any, decoder: Any, floats: Mapping[str, int], config: TrainingConfig) -> Any:
    """Build the trainer, with a head for each loss that has a weight."""
    recipe = config.recipe
    wanted = {
        GRADIENTS: recipe.gradients,
        COLOURS: recipe.colours,
        FEATURES: recipe.features,
        CLASSES: recipe.labels,
    }
    heads = {name: build_head(config.latent_dim, floats[name], name=name) for name, weight in wanted.items() if weight}
    return build_trainer(
        encoder,
        decoder,
        heads,
        partners=recipe.contrast > 0,
        kept=recipe.kept > 0,
        copies_from=copies_from(encoder) if recipe.copies else None,
    )


def _split(images: Images, config: TrainingConfig) -> tuple[Positions, Positions]:
    """Return the positions to train on and those held out."""
    shuffled = np.random.default_rng(config.seed).permutation(images.positions)
    count = int(len(shuffled) * config.validation)
    return np.sort(shuffled[count:]), np.sort(shuffled[:count])


def _begun(encoder: Any, images: Images) -> Latents:
    """Return the latents before the training at the positions of the source, `[len(source), d]`."""
    latents = images.encoded(encoder, images.positions)
    begun = np.zeros((len(images.source), latents.shape[1]), np.float32)
    begun[images.positions] = latents
    return begun


def _batches(
    images: Images, groups: tuple[Positions, Positions], config: TrainingConfig, begun: Latents | None
) -> Batches:
    recipe = config.recipe
    partners = None
    if recipe.contrast and recipe.partner == "neighbour":
        partners = nearest_partners(images, groups, seed=config.seed, latents=begun)
    targets = measured_once(images, recipe)
    return Batches(images, recipe, partners, _classes(images.source), targets, begun=begun)


def _classes(source: Source) -> npt.NDArray[np.int32]:
    """Return the class of each image of a source by its number."""
    number = {label: at for at, label in enumerate(class_counts(source))}
    return np.array([number.get(label, NO_CLASS) for label in source.labels], np.int32)  # type: ignore[arg-type]
