"""Batches of what was observed, for the part of an encoder that is trained behind a frozen backbone."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ae_search.data import Source
from ae_search.data.pipeline import Positions
from ae_search.model.backbone.encoder import combining_model
from ae_search.model.heads import CLASSES, COLOURS, FEATURES, GRADIENTS, IMAGE, PARTNER, PARTNERS, PIXELS
from ae_search.training.batches import PREFETCHED
from ae_search.training.observations import Observations
from ae_search.training.recipe import Recipe

Dataset = Any
Rows = npt.NDArray[np.float32]
ROWS_AT_ONCE = 1024
# What the latents are made of, and what is read of each image, see `Observations`.
COMBINED = (FEATURES, COLOURS, GRADIENTS)
READ = (*COMBINED, PIXELS)


@dataclass(frozen=True)
class Measured:
    """What the latents are made of, for each image that was observed.

    Attributes:
        observations: What was observed.
    """

    observations: Observations

    @property
    def source(self) -> Source:
        """Where the images come from."""
        return self.observations.source

    @cached_property
    def combine(self) -> Any:
        """The way from features `[n, looks, f]` and histograms to what was measured `[n, m]`, as in the encoder."""
        features, *histograms = (self.observations.files[name].shape[-1] for name in COMBINED)
        return combining_model(features, histograms)

    def blocks(self, positions: Positions) -> Iterator[Rows]:
        """Yield what was measured of the images at some positions, in their order, `[some, m]` at a time."""
        for first in range(0, len(positions), ROWS_AT_ONCE):
            part = positions[first : first + ROWS_AT_ONCE]
            yield self.combine.predict_on_batch([self.observations.at(part, name) for name in COMBINED])

    def rows(self, positions: Positions) -> Rows:
        """Return what was measured of the images at some positions: `[n, m]`."""
        return np.concatenate(list(self.blocks(positions)))

    def encoded(self, encoder: Any, positions: Positions) -> Rows:
        """Return what an encoder of what was measured makes of the images at some positions: `[n, d]`."""
        return np.concatenate([encoder.predict_on_batch(block) for block in self.blocks(positions)])

    def read(self, at: Any) -> list[Any]:
        """Return, within a graph, features, histograms and pixels of a batch of positions."""
        files = [self.observations.files[name] for name in READ]
        read = tf.numpy_function(self._read, [at], [one.dtype for one in files], stateful=False)
        return [tf.ensure_shape(part, (None, *one.shape[1:])) for part, one in zip(read, files, strict=True)]

    def _read(self, at: Positions) -> list[npt.NDArray[Any]]:
        return [self.observations.at(at, name) for name in READ]

    def given_back(self, recipe: Recipe) -> Callable[[Any, Any], dict[str, Any]]:
        """Return what tells the targets of the decoders of the images at some positions."""

        def targets(at: Any, _: Any) -> dict[str, Any]:
            return targets_of(self.read(at), recipe)

        return targets


def targets_of(read: list[Any], recipe: Recipe) -> dict[str, Any]:
    """Return what the decoders are to give back: small pixels, and what else the recipe names.

    Args:
        read: Features, colours, gradients and pixels.
        recipe: The recipe.
    """
    features, colours, gradients, pixels = read
    targets = {PIXELS: tf.cast(pixels, tf.float32) / 255.0}
    if recipe.features:
        # Their root mean square is 1, like that of histograms.
        targets[FEATURES] = tf.math.l2_normalize(features[:, 0], axis=1) * math.sqrt(features.shape[2])
    if recipe.colours:
        targets[COLOURS] = colours
    if recipe.gradients:
        targets[GRADIENTS] = gradients
    return targets


@dataclass(frozen=True)
class ObservedBatches:
    """Makes the batches of one training.

    Attributes:
        measured: What the latents are made of.
        recipe: What is asked of the encoder.
        partners: For each position of the source some positions `[len(source), k]`, one of which is drawn as its
            partner; None where an image is its own partner.
        classes: Class of each position `[len(source)]`, -1 where it has no label.
    """

    measured: Measured
    recipe: Recipe
    partners: npt.NDArray[np.int32] | None
    classes: npt.NDArray[np.int32]

    def training(self, positions: Positions, batch_size: int, *, seed: int) -> Dataset:
        """Return shuffled batches `(inputs, targets)` by the names of the trainer, without end."""
        at = tf.data.Dataset.from_tensor_slices(positions)
        at = at.shuffle(len(positions), seed=seed, reshuffle_each_iteration=True).repeat().batch(batch_size)
        return self._examples(at, drawn=True)

    def held_out(self, positions: Positions, batch_size: int) -> Dataset:
        """Return batches in the order of `positions`, each image beside its first partner."""
        return self._examples(tf.data.Dataset.from_tensor_slices(positions).batch(batch_size), drawn=False)

    def _examples(self, at: Dataset, *, drawn: bool) -> Dataset:
        return at.map(lambda at: self._example(at, drawn=drawn), tf.data.AUTOTUNE).prefetch(PREFETCHED)

    def _example(self, at: Any, *, drawn: bool) -> tuple[dict[str, Any], dict[str, Any]]:
        read = self.measured.read(at)
        inputs, targets = {IMAGE: self.measured.combine(read[:-1])}, targets_of(read, self.recipe)
        if self.recipe.contrast:
            inputs[PARTNER], targets[PARTNERS] = self._partner(at, read, drawn=drawn), tf.range(tf.shape(at)[0])
        if self.recipe.labels:
            targets[CLASSES] = tf.gather(tf.constant(self.classes), at)
        return inputs, targets

    def _partner(self, at: Any, read: list[Any], *, drawn: bool) -> Any:
        """Return what was measured of the partner of each image, or of one look at it alone."""
        features, *histograms, _ = read
        choices = features.shape[1] if self.partners is None else self.partners.shape[1]
        which = tf.random.uniform(tf.shape(at), 0, choices, tf.int32) if drawn else tf.zeros_like(at, tf.int32)
        if self.partners is None:
            look = tf.gather(features, which, batch_dims=1)
            return self.measured.combine([tf.repeat(look[:, None], choices, axis=1), *histograms])
        table = tf.constant(self.partners)
        partner = tf.gather(tf.gather(table, at), which, batch_dims=1)
        return self.measured.combine(self.measured.read(tf.cast(partner, tf.int64))[:-1])
