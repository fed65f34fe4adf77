"""Histograms that decoders are to give back, measured once where the images are in memory."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from ae_search.data.pipeline import Images, images_at_once
from ae_search.model.heads import COLOURS, GRADIENTS, PIXELS
from ae_search.model.histograms import oriented_gradients
from ae_search.model.hsv_histogram import hsv_histogram
from ae_search.training.recipe import Recipe

# What the histograms of all images may take: 170,000 grey images, or 74,000 in colour.
MOST_BYTES = 2**28


def measured_once(images: Images, recipe: Recipe) -> Callable[[Any, Any], dict[str, Any]] | None:
    """Return what tells the targets of the decoders by position, or None where batches have to measure them.

    Args:
        images: The images.
        recipe: Which decoders there are.
    """
    wanted: dict[str, Callable[[Any], Any]] = {}
    if recipe.gradients:
        wanted[GRADIENTS] = oriented_gradients
    if recipe.colours:
        wanted[COLOURS] = hsv_histogram
    if images.pixels is None or not wanted:
        return None
    one = tf.zeros((1, *images.image_shape))
    floats = sum(int(measure(one).shape[1]) for measure in wanted.values())
    if 4 * floats * len(images.source) > MOST_BYTES:
        return None
    tables = {name: _table(images, measure) for name, measure in wanted.items()}

    def targets(at: Any, clean: Any) -> dict[str, Any]:
        return {PIXELS: clean, **{name: tf.gather(table, at) for name, table in tables.items()}}

    return targets


def _table(images: Images, measure: Callable[[Any], Any]) -> Any:
    """Return what is measured of each image, at its position of the source."""
    graph = tf.function(measure, [tf.TensorSpec((None, *images.image_shape))])
    rows = [graph(batch).numpy() for _, batch in images.batches(images.positions, images_at_once(images.image_shape))]
    found = np.concatenate(rows)
    table = np.zeros((len(images.source), found.shape[1]), np.float32)
    table[images.positions] = found
    # Outside of any graph, which would copy it into itself.
    with tf.device("/CPU:0"):
        return tf.constant(table)
