"""Losses, their weights and the optimiser of what is trained."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from ae_search.model.heads import CLASSES, COLOURS, FEATURES, GRADIENTS, KEPT, PARTNERS, PIXELS, VIEWS
from ae_search.training.adam import FusedAdam
from ae_search.training.batches import NO_CLASS
from ae_search.training.config import TrainingConfig


def compile_trainer(trainer: Any, config: TrainingConfig, steps_per_execution: int) -> None:
    """Give the trainer its losses, their weights and the optimiser, and build it."""
    recipe = config.recipe
    losses: dict[str, tuple[float, Callable[[], Any]]] = {
        PIXELS: (recipe.pixels, lambda: keras.losses.BinaryCrossentropy(from_logits=True)),
        GRADIENTS: (recipe.gradients, keras.losses.MeanSquaredError),
        COLOURS: (recipe.colours, keras.losses.MeanSquaredError),
        FEATURES: (recipe.features, keras.losses.MeanSquaredError),
        KEPT: (recipe.kept, lambda: one_less_cosine),
        PARTNERS: (recipe.contrast, lambda: own_partner),
        VIEWS: (recipe.copies, lambda: own_partner),
        CLASSES: (
            recipe.labels,
            lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=NO_CLASS),
        ),
    }
    # One that works on several devices is Keras's own.
    adam = FusedAdam if config.devices == 1 else keras.optimizers.Adam
    trainer.compile(
        optimizer=adam(config.learning_rate),
        loss={name: losses[name][1]() for name in trainer.output},
        loss_weights={name: losses[name][0] for name in trainer.output},
        steps_per_execution=steps_per_execution,
    )
    _build(trainer)


def one_less_cosine(begun: Any, latents: Any) -> Any:
    """Return how far latents `[n, d]` have turned from what they began as, `[n]`: 0 for not at all, 2 at most."""
    return 1.0 + keras.losses.cosine_similarity(begun, latents, axis=-1)


def own_partner(_: Any, similarities: Any) -> Any:
    """Return how hard it is to tell the partner of each image among those of its batch, `[n]`: the cross-entropy.

    Which is which is told by the place alone, since a device does not know where its share of the batch begins, and
    may have none of the last images that are held out.

    Args:
        similarities: Cosines of each image with each partner, divided by the temperature, float32 `[n, n]`. Column i
            has the partner of the image in row i.

    Returns:
        float32 `[n]`, at least 0.
    """
    return keras.ops.logsumexp(similarities, axis=1) - keras.ops.diagonal(similarities)


def _build(trainer: Any) -> None:
    """Make the variables of optimiser and losses now: `fit` traces twice if they come with its first batch."""
    outputs = trainer({name: np.zeros((1, *image.shape[1:]), np.float32) for name, image in trainer.input.items()})
    numbers = {name: np.zeros(1, np.int32) for name in (PARTNERS, VIEWS, CLASSES) if name in outputs}
    trainer.compute_loss(y={**outputs, **numbers}, y_pred=outputs)
    trainer.optimizer.build(trainer.trainable_variables)
