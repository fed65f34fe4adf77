"""Batches of images, as the trainer takes them and has to give them back."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ae_search.contract import Latents
from ae_search.data.pipeline import Images, Positions
from ae_search.data.random_alterations import moved, spoiled
from ae_search.model.heads import CLASSES, COLOURS, GRADIENTS, IMAGE, KEPT, PARTNER, PARTNERS, PIXELS, VIEW, VIEWS
from ae_search.model.histograms import oriented_gradients
from ae_search.model.hsv_histogram import hsv_histogram
from ae_search.training.recipe import Recipe

# The class of an image without a label; the loss leaves it out.
NO_CLASS = -1

Dataset = Any

# Batches that are ready before they are asked for.
PREFETCHED = 2
# How far views are moved that the part for copies learns from: as far as typical copies are.
VIEW_MOVED = 1.0


@dataclass(frozen=True)
class Batches:
    """Makes the batches of one training.

    Attributes:
        images: The images.
        recipe: What is asked of the encoder.
        partners: For each position of the source some positions `[len(source), k]`, one of which is drawn as its
            partner; None where an image is its own partner.
        classes: Class of each position `[len(source)]`, -1 where it has no label.
        targets: What the decoders are to give back of the images at some positions, where that is not for the recipe
            to say.
        begun: Latents that are to be kept, at each position `[len(source), d]`; None where none are.
    """

    images: Images
    recipe: Recipe
    partners: npt.NDArray[np.int32] | None
    classes: npt.NDArray[np.int32]
    targets: Callable[[Any, Any], dict[str, Any]] | None = None
    begun: Latents | None = None
    _class_table: Any = field(init=False, repr=False)
    _partner_table: Any = field(init=False, repr=False)
    _begun_table: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Outside of any graph, which would copy them into itself.
        with tf.device("/CPU:0"):
            object.__setattr__(self, "_class_table", tf.constant(self.classes))
            object.__setattr__(self, "_partner_table", None if self.partners is None else tf.constant(self.partners))
            object.__setattr__(self, "_begun_table", None if self.begun is None else tf.constant(self.begun))
        if self.partners is not None:
            _ = self.images.tensor

    def training(self, positions: Positions, batch_size: int, *, seed: int) -> Dataset:
        """Return shuffled, altered batches `(inputs, targets)` by the names of the trainer, without end.

        The end is left to `steps_per_epoch`: a photograph that vanishes during the training must not end it.
        """
        batches = self.images.shuffled(positions, batch_size, seed=seed)
        return batches.map(self._altered, tf.data.AUTOTUNE).prefetch(PREFETCHED)

    def held_out(self, positions: Positions, batch_size: int) -> Dataset:
        """Return batches in the order of `positions`, not altered, each image beside its first partner."""
        batches = self.images.batches(positions, batch_size)
        return batches.map(self._plain, tf.data.AUTOTUNE).prefetch(PREFETCHED)

    def _altered(self, at: Any, images: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        # What is to be reconstructed stays in its place, or decoders would have to learn every place of it.
        partner = images if self._partner_table is None else self._drawn(at)
        if self.recipe.moved:
            partner = moved(partner, self.recipe.moved)
        # Every view is spoiled: a copy that is not is found anyway.
        view = spoiled(moved(images, VIEW_MOVED)) if self.recipe.copies else None
        return self._example(at, self._spoiled(images), images, self._spoiled(partner), view)

    def _plain(self, at: Any, images: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        # The same partner each time: epochs are compared by what comes of this.
        partner = images if self._partner_table is None else self._at(tf.gather(self._partner_table, at)[:, 0])
        # The mirror image is the one alteration without chance in it.
        return self._example(at, images, images, partner, images[:, :, ::-1])

    def _spoiled(self, images: Any) -> Any:
        """Spoil some of the images."""
        if not self.recipe.spoiled:
            return images
        chosen = tf.random.uniform((tf.shape(images)[0], 1, 1, 1)) < self.recipe.spoiled
        return tf.where(chosen, spoiled(images), images)

    def _drawn(self, at: Any) -> Any:
        """Return one of the partners of each image, by lot."""
        choices = tf.gather(self._partner_table, at)
        draw = tf.random.uniform((tf.shape(at)[0],), 0, choices.shape[1], tf.int32)
        return self._at(tf.gather(choices, draw, batch_dims=1))

    def _at(self, positions: Any) -> Any:
        return tf.cast(tf.gather(self.images.tensor, positions), tf.float32) / 255.0

    def _example(
        self, at: Any, seen: Any, clean: Any, partner: Any, view: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        inputs, targets = {IMAGE: seen}, self._given_back(clean) if self.targets is None else self.targets(at, clean)
        if self.recipe.contrast:
            inputs[PARTNER], targets[PARTNERS] = partner, tf.range(tf.shape(seen)[0])
        if self.recipe.copies:
            inputs[VIEW], targets[VIEWS] = view, tf.range(tf.shape(seen)[0])
        if self._begun_table is not None:
            targets[KEPT] = tf.gather(self._begun_table, at)
        if self.recipe.labels:
            targets[CLASSES] = tf.gather(self._class_table, at)
        return inputs, targets

    def _given_back(self, clean: Any) -> dict[str, Any]:
        targets = {PIXELS: clean}
        if self.recipe.gradients:
            targets[GRADIENTS] = oriented_gradients(clean)
        if self.recipe.colours:
            targets[COLOURS] = hsv_histogram(clean)
        return targets
