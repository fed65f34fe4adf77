"""Centre and scale latents after the training, by weights alone: the autoencoder answers as before."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from ae_search.model.parts import KINDS, copies_from
from ae_search.principal import principal_axes

Rows = npt.NDArray[Any]

# Directions of a smaller share of the largest eigenvalue hardly vary: they count like the least of the others, for few
# images leave some without any variance, and blown up, those would outweigh all else in images that come later.
LEAST_SHARE = 1e-6
# What is added to the variances of latents, in parts of their mean, where the way back is a regression.
RIDGE = 1e-6


def scale_latents(autoencoder: Any, encoded: Callable[[Any], Rows]) -> None:
    """Turn latents to their principal components, centred and scaled by eigenvalue^-1/4: half way to whitening.

    The change is folded into the encoder's last dense layer, and its inverse into those of the decoder that latents
    enter. Where latents have two parts, the one that says what an image shows is scaled. Each part has a fixed
    length, so that the way back can only be estimated, and the autoencoder answers nearly as before.

    Args:
        autoencoder: Has the layers "encoder" and "decoder", whose dense layers "expand" and "straight" take the
            latents. Its weights change.
        encoded: What a model of images, such as the encoder, makes of those that it was trained on: float32 `[n, d]`.
    """
    encoder = autoencoder.get_layer("encoder")
    if copies_from(encoder) is None:
        there, back, mean = _scaling(encoded(encoder))
        _fold_in(encoder.get_layer("latents"), there, mean)
        _undo(autoencoder.get_layer("decoder"), back, mean)
        return
    kinds, before = encoder.get_layer(KINDS), encoded(encoder)
    there, _, mean = _scaling(encoded(keras.Model(encoder.input, kinds.output)))
    _fold_in(kinds, there, mean)
    _undo(autoencoder.get_layer("decoder"), *_regression(encoded(encoder), before))


def _scaling(latents: Rows) -> tuple[Rows, Rows, Rows]:
    """Return the way to scaled components `[d, d]`, the way back, and the mean `[d]`."""
    found = principal_axes(latents)
    scales = found.scales(LEAST_SHARE)
    return found.axes * scales, (found.axes / scales).T, found.mean


def _regression(after: Rows, before: Rows) -> tuple[Rows, Rows]:
    """Return matrix `[d, d]` and offset `[d]` that lead back from latents `[n, d]` to what they were, nearly."""
    mean, centre = after.mean(axis=0, dtype=np.float64), before.mean(axis=0, dtype=np.float64)
    rows = (after - mean).astype(np.float64)
    products = rows.T @ rows
    products += np.eye(len(products)) * max(RIDGE * np.trace(products) / len(products), np.finfo(np.float32).tiny)
    back = np.linalg.solve(products, rows.T @ (before - centre))
    return back, centre - mean @ back


def _fold_in(last: Any, there: Rows, mean: Rows) -> None:
    kernel, bias = last.get_weights()
    last.set_weights([kernel @ there, (bias - mean) @ there])


def _undo(decoder: Any, back: Rows, offset: Rows) -> None:
    for name in ("expand", "straight"):
        first = decoder.get_layer(name)
        kernel, bias = first.get_weights()
        first.set_weights([back @ kernel, bias + offset @ kernel])
