"""Where the linear part of the latents begins: at the principal components of what the encoder measures."""

from typing import Any

import keras
import numpy as np

from ae_search.data.pipeline import Images, Positions
from ae_search.model.gradients import MEASURED
from ae_search.principal import HALF_WHITE, Blocks, fit_components

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
    begin_as_components(encoder.get_layer("latents"), lambda: iter([measured]), seed=seed)


def begin_as_components(last: Any, measured: Blocks, *, seed: int, power: float = HALF_WHITE) -> None:
    """Let the rows of a dense layer that take what was measured give its principal components.

    Args:
        last: The layer that returns the latents; what was measured is the last part of what it takes.
        measured: Yields what was measured `[some, m]`.
        seed: Seed of the components.
        power: Power of its eigenvalue that each is scaled by.
    """
    kernel, bias = last.get_weights()
    components = fit_components(measured, len(bias), seed=seed, power=power)
    # Few images span fewer components than there are latents: the others begin at random, as all did.
    count = components.axes.shape[1]
    kernel[-len(components.mean) :, :count] = components.axes
    bias[:count] = -components.mean @ components.axes
    last.set_weights([kernel, bias])
