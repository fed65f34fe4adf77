"""Where the linear part of the latents begins: at components of what the encoder measures."""

from typing import Any

import keras
import numpy as np

from ae_search.contract import Latents
from ae_search.data.pipeline import Images, Positions
from ae_search.model.gradients import CELLS, COLOURS, COMPONENTS, MEASURED, PATCHES, SHAPES, groups
from ae_search.model.parts import COPIES, KINDS, copies_from
from ae_search.principal import Components, fit_components, principal_axes
from ae_search.training.neighbour_components import neighbour_components
from ae_search.training.typical_patches import learn_patches

# Images that the components are computed from, at most.
STARTED_BY = 20_000
# These apply to images in colour. Components of the shapes are scaled by eigenvalue to this power; the colours' find
# more as they are. Weights are those of a group's length, where that of the shapes is 1.
SHAPE_POWER = -0.15
SHAPE_COMPONENTS = 256
CELL_WEIGHT = 0.15
# Where the variation of the shapes has twice the dimensions of the colours', a little colour helps shapes most; where
# it has seven times as many, as among groceries, shapes say next to nothing.
EVEN_RATIO = 2.0
EVEN_WEIGHT = 0.35
COLOUR_WEIGHTS = (0.25, 4.0)
# Length of the patches, where that of the gradients is 1.
PATCHES_WEIGHT = 0.7


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
    parts, in_two = groups(encoder), copies_from(encoder) is not None
    if PATCHES in parts:
        learn_patches(encoder.get_layer(PATCHES), images, chosen, seed=seed)
    measured = images.encoded(keras.Model(encoder.input, encoder.get_layer(MEASURED).output), chosen)
    if PATCHES in parts:
        measured = _narrowed(encoder.get_layer(COMPONENTS), measured, parts, seed)
    last = encoder.get_layer(KINDS if in_two else "latents")
    fit = _fit_in_colour if COLOURS in parts else _fit
    # What is to be kept must not have chance in it.
    begin_as(last, fit(measured, parts, last.units, seed), alone=COLOURS in parts)
    if in_two:
        copies = encoder.get_layer(COPIES)
        if copies.trainable:
            begin_as(copies, _fit(measured, parts, copies.units, seed))
        else:
            tell_copies(copies, measured[:, parts[SHAPES[0]]], seed=seed)


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


def tell_copies(layer: Any, gradients: Latents, *, seed: int) -> None:
    """Let a dense layer give the principal components of gradients `[n, g]`, scaled by eigenvalue^-1/4."""
    components = fit_components(lambda: iter([gradients]), layer.units, seed=seed)
    kernel, bias = (np.zeros_like(weights) for weights in layer.get_weights())
    count = components.axes.shape[1]
    kernel[:, :count] = components.axes
    bias[:count] = -components.mean @ components.axes
    layer.set_weights([kernel, bias])


def colour_weight(shapes: Latents, colours: Latents) -> float:
    """Return how much colours are to count beside shapes, told by the images alone.

    Colours that tell kinds apart lie around a few of them: most of their variation has few dimensions. Where colours
    are those of any background, it has many. Shapes are the measure, for they have about as many in either case.

    Args:
        shapes: Float32 `[n, a]`.
        colours: Float32 `[n, b]`.

    Returns:
        Length of the colours where that of the shapes is 1, in [0.25, 4].
    """
    ratio = effective_dimensions(shapes) / effective_dimensions(colours)
    return float(np.clip(EVEN_WEIGHT * (ratio / EVEN_RATIO) ** 2, *COLOUR_WEIGHTS))


def effective_dimensions(rows: Latents) -> float:
    """Return the participation ratio of vectors `[n, d]`: 1 if they vary along a line, d if alike in all directions."""
    values = principal_axes(rows).values
    total = float((values**2).sum())
    return float(values.sum()) ** 2 / total if total > 0 else 1.0


def _narrowed(layer: Any, measured: Latents, parts: dict[str, slice], seed: int) -> Latents:
    """Let a dense layer give the components of what was measured, patches as long as their weight says; return them."""
    weights = np.ones(measured.shape[1], np.float32)
    weights[parts[PATCHES]] = (
        PATCHES_WEIGHT * _length(measured[:, parts[SHAPES[0]]]) / _length(measured[:, parts[PATCHES]])
    )
    found = fit_components(lambda: iter([measured * weights]), layer.units, seed=seed)
    components = Components(found.mean / weights, found.axes * weights[:, None])
    layer.set_weights([np.zeros_like(one) for one in layer.get_weights()])
    begin_as(layer, components)
    narrowed = components.of(measured)
    # As wide as the layer: few images span fewer components, and `begin_as` counts rows from the end.
    return np.pad(narrowed, ((0, 0), (0, layer.units - narrowed.shape[1])))


def _fit(measured: Latents, parts: dict[str, slice], count: int, seed: int) -> Components:
    if PATCHES in parts:
        # These are components, and scaled, already.
        floats = measured.shape[1]
        return Components(np.zeros(floats, np.float32), np.eye(floats, min(floats, count), dtype=np.float32))
    return fit_components(lambda: iter([measured]), count, seed=seed)


def _fit_in_colour(measured: Latents, parts: dict[str, slice], count: int, seed: int) -> Components:
    """Return components of shapes, coarse pixels and colours, each group as long as its weight says.

    What neighbours differ by counts less, as behind a backbone.
    """
    floats = measured.shape[1]
    shapes = np.concatenate([np.arange(floats)[parts[name]] for name in SHAPES])
    colours, cells = np.arange(floats)[parts[COLOURS]], np.arange(floats)[parts[CELLS]]
    weight = colour_weight(measured[:, shapes], measured[:, colours])
    narrowed = fit_components(lambda: iter([measured[:, shapes]]), SHAPE_COMPONENTS, seed=seed, power=SHAPE_POWER)
    into = [
        _placed(narrowed.axes, shapes, floats) / _length(narrowed.of(measured[:, shapes])),
        _placed(np.eye(len(cells)), cells, floats) * (CELL_WEIGHT / _length(measured[:, cells])),
        _placed(np.eye(len(colours)), colours, floats) * (weight / _length(measured[:, colours])),
    ]
    there = np.concatenate(into, axis=1).astype(np.float32)
    mean = measured.mean(axis=0, dtype=np.float64).astype(np.float32)
    weighted = (measured - mean) @ there
    found = neighbour_components(weighted, count)
    # As large as what a decoder likes to be given, and large beside the steps of the training.
    scale = np.float32(np.sqrt(found.axes.shape[1]) / _length(found.of(weighted)))
    return Components(mean, there @ found.axes * scale)


def _placed(axes: Any, at: Any, floats: int) -> Any:
    """Return axes `[a, m]` of some floats as axes of all of them, `[floats, m]`."""
    placed = np.zeros((floats, axes.shape[1]))
    placed[at] = axes
    return placed


def _length(rows: Latents) -> float:
    """Return the root of the mean squared distance of vectors from their mean; 1 where they are equal."""
    return float(np.sqrt(rows.var(axis=0, dtype=np.float64).sum())) or 1.0
