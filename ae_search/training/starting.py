"""Where the linear part of the latents begins: at the principal components of what the encoder measures."""

from typing import Any

import keras
import numpy as np

from ae_search.data.pipeline import Images, Positions
from ae_search.model.gradients import MEASURED
from ae_search.principal import Components, fit_components

# Images that the components are computed from, at most.
STARTED_BY = 20_000


def start_from_components(encoder: Any, images: Images, positions: Positions, *, seed: int) -> None:
    """Let an encoder's linear way from what it measures to its latents be their scaled principal components.

    Args:
        encoder: Its weights change if its architecture is "gradients"; others measure nothing, and stay as they are.
        images: The images.
        positions: Which of them to learn the components from; of more than 20,000, some at random.
        seed: Seed of the choice.
    """
    if MEASURED not in [layer.name for layer in encoder.layers]:
        return
    chosen = np.sort(np.random.default_rng(seed).permutation(positions)[:STARTED_BY])
    measured = images.encoded(keras.Model(encoder.input, encoder.get_layer(MEASURED).output), chosen)
    last = encoder.get_layer("latents")
    begin_as(last, fit_components(lambda: iter([measured]), last.units, seed=seed))


def begin_as(last: Any, components: Components, *, alone: bool = False) -> None:
    """Let the rows of a dense layer that take what was measured give its components.

    Args:
        last: The layer that returns the latents; what was measured is the last part of what it takes.
        components: At most as many as latents. Few images span fewer: the other latents begin at random, as all did.
        alone: Whether the other parts of what it takes begin without a say.
    """
    kernel, bias = last.get_weights()
    (measured, count) = components.axes.shape
    kernel[-measured:, :count] = components.axes
    if alone:
        kernel[:-measured] = 0.0
    bias[:count] = -components.mean @ components.axes
    last.set_weights([kernel, bias])
