"""Architecture `gradients`: histograms of gradients and colours, coarse pixels, and dense layers on top of them."""

from typing import Any

import keras
from keras import layers

from ae_search.model.conv import MOMENTUM
from ae_search.model.histograms import CellMeans, OrientedGradients
from ae_search.model.hsv_histogram import HsvHistogram
from ae_search.model.parts import in_parts
from ae_search.model.patches import PatchKinds

HIDDEN_UNITS = 1024
# The layer whose outputs are all that is measured of an image: the layers below, one after the other.
MEASURED = "measured"
SHAPES = ("gradients", "coarse", "contours")
CELLS = "cells"
COLOURS = "colours"
PATCHES = "patches"
# Where patches make what is measured long, the layers that learn are given so many components of it.
COMPONENTS = "components"
COMPONENTS_FLOATS = 512


def encoder(
    image_shape: tuple[int, int, int],
    latent_dim: int,
    *,
    parts: bool = False,
    learned_copies: bool = False,
    patches: int = 0,
) -> Any:
    """Build the encoder: `[n, h, w, c]` to `[n, latent_dim]`.

    The histograms are a strong representation before anything is learnt; the coarse pixels say what is bright, which
    gradients leave open. Latents are a sum of something linear in all of them and of what a hidden layer finds; in two
    parts, that is the first one, and the second is linear in the gradients, see `parts`, or has a hidden layer of its
    own where it is learned.
    """
    # === Functional Model ===
    image = keras.Input(image_shape, name="image")
    measures = _measures(colour=image_shape[2] == 3, patches=patches)
    measured = [measure(image) for measure in measures]
    x = layers.Concatenate(dtype="float32", name=MEASURED)(measured)
    if patches:
        x = layers.Dense(COMPONENTS_FLOATS, trainable=False, dtype="float32", name=COMPONENTS)(x)
    both = _beside_hidden(x)
    if parts:
        seen = _beside_hidden(x, "copies_") if learned_copies else measured[0]
        latents = in_parts(both, seen, latent_dim, learned=learned_copies)
    else:
        latents = layers.Dense(latent_dim, name="latents")(both)
    return keras.Model(image, latents, name="encoder")


def _beside_hidden(x: Any, prefix: str = "") -> Any:
    """Return what a hidden layer finds in something, and the thing itself."""
    hidden = layers.Dense(HIDDEN_UNITS, use_bias=False, name=f"{prefix}hidden")(x)
    hidden = layers.BatchNormalization(momentum=MOMENTUM, name=f"{prefix}norm")(hidden)
    hidden = layers.ReLU(name=f"{prefix}relu")(hidden)
    return layers.Concatenate(name=f"{prefix}both")([hidden, x])


def groups(encoder: Any) -> dict[str, slice]:
    """Return which floats of the layer `MEASURED` come from which layer, by the names of those there are."""
    found, start = {}, 0
    has_patches = PATCHES in [layer.name for layer in encoder.layers]
    for measure in _measures(colour=encoder.input_shape[3] == 3, patches=int(has_patches)):
        stop = start + encoder.get_layer(measure.name).output.shape[1]
        found[measure.name], start = slice(start, stop), stop
    return found


def _measures(*, colour: bool, patches: int) -> list[Any]:
    """Return new layers, in the order of what is measured; grey images have no colours, and fewer shapes."""
    gradients = OrientedGradients(dtype="float32", name=SHAPES[0])
    cells = CellMeans(dtype="float32", name=CELLS)
    if not colour:
        return [gradients, cells] + ([PatchKinds(kinds=patches, dtype="float32", name=PATCHES)] if patches else [])
    # Photographs show a thing anywhere, of any size, before something brighter or darker.
    coarse = OrientedGradients(cells=4, dtype="float32", name=SHAPES[1])
    contours = OrientedGradients(orientations=9, signed=False, dtype="float32", name=SHAPES[2])
    return [gradients, coarse, contours, cells, HsvHistogram(dtype="float32", name=COLOURS)]
