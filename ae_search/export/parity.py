"""What is exported against the Keras encoder, on pictures that look like real ones."""

import itertools
import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from ae_search.contract import (
    IMAGE_BYTES,
    IMAGES,
    LATENTS,
    MODEL_CARD,
    ROWS,
    SIGNATURE_BYTES,
    SIGNATURE_DECODE,
    SIGNATURE_DESCRIBE,
    SIGNATURE_FLOAT,
    SIGNATURE_UINT8,
    ModelCard,
)
from ae_search.errors import ExportError
from ae_search.export.adapter import AdaptedEncoder, Shape
from ae_search.export.decoder import AdaptedDecoder
from ae_search.image_file import pixels_to_png

log = logging.getLogger(__name__)

# Relative to the largest latent value; float32 sums in another order differ by about 1e-6, half precision and
# quantized layers by up to 1e-2.
PARITY_TOLERANCE = 1e-4
COARSE_TOLERANCE = 2e-2
# Latents whose every float is as near as this, relative to itself, are the same.
SAME = 1e-6
# Relative to the largest latent value. Encoders that are fed a 255th of what they want come to about that.
SUSPICIOUS = 1e-2
# Levels of 255, on average, by which two pictures differ; below that (images of very few pixels) they are not compared.
DIFFERENT_PICTURES = 8
# They call back into the Python process that made them, which a server is not.
PYTHON_OPERATIONS = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}


def check_pictures(image_shape: Shape) -> npt.NDArray[np.uint8]:
    """Return six pictures `[6, h, w, c]`: two gradients, two with shapes, one with a photograph's spectrum, noise."""
    height, width, channels = image_shape
    y, x = np.mgrid[:height, :width] / np.array([max(height - 1, 1), max(width - 1, 1)]).reshape(2, 1, 1)
    rng = np.random.default_rng(0)

    def mix(share: Any, first: tuple[int, int, int], second: tuple[int, int, int]) -> Any:
        return share[..., np.newaxis] * np.array(first) + (1 - share[..., np.newaxis]) * np.array(second)

    disc = (np.hypot(y - 0.4, x - 0.55) < 0.3).astype(float)
    bars = (np.sin(9 * x + 14 * y) > 0).astype(float) * (0.5 + 0.5 * y)
    pictures = [
        mix(x, (250, 160, 60), (20, 30, 90)),
        mix((y + (x - 0.5) ** 2) / 1.25, (40, 90, 30), (190, 220, 250)),
        mix(disc, (200, 30, 40), (235, 230, 215)),
        mix(bars, (240, 210, 40), (30, 60, 150)),
        128 + 50 * np.stack([_natural_noise(rng, height, width) for _ in range(3)], axis=-1),
        rng.integers(0, 256, (height, width, 3)),
    ]
    if channels == 1:
        pictures = [picture.mean(axis=-1, keepdims=True) for picture in pictures]
    return np.stack([np.round(np.clip(picture, 0, 255)).astype(np.uint8) for picture in pictures])


def check_latents(encoder: AdaptedEncoder) -> npt.NDArray[np.float32]:
    """Return the latents that Keras gives to the pictures, in the range that the encoder wants.

    Raises:
        ExportError: They cannot be searched with: not finite, another each time, or the same for different pictures.
    """
    pixels = check_pictures(encoder.image_shape)
    values = _in_range_of(encoder, pixels)
    latents: npt.NDArray[np.float32]
    latents, again = (encoder.run(values).numpy() for _ in range(2))
    fed = f"It was fed {encoder.dtype} images in {encoder.input_range}; check that (--input-range), and its weights."
    if latents.shape != (len(pixels), encoder.latent_dim):
        raise ExportError(
            f"The encoder must return [n, {encoder.latent_dim}] for n images. "
            f"Received: {latents.shape} for {len(pixels)}."
        )
    if not np.isfinite(latents).all():
        raise ExportError(f"The encoder's latents are not finite (NaN or infinite). {fed}")
    scale = float(np.abs(latents).max()) or 1.0
    if np.abs(latents - again).max() > tolerance(encoder) * scale:
        raise ExportError(
            "The encoder gives the same images other latents each time; is a layer called with training=True in it?"
        )
    _check_different(latents, pixels, fed)
    return latents


def tolerance(adapted: AdaptedEncoder | AdaptedDecoder) -> float:
    """Return how far latents may differ, relative to the largest value, or images, whose largest value is 1."""
    coarse = any("16" in layer.compute_dtype or layer.quantization_mode for layer in _layers(adapted.model))
    return COARSE_TOLERANCE if coarse else PARITY_TOLERANCE


def check_parity(
    encoder: AdaptedEncoder,
    expected: npt.NDArray[np.float32],
    card: ModelCard,
    folder: Path,
    *,
    decoder: AdaptedDecoder | None = None,
) -> None:
    """Load what was written and compare its latents with the Keras encoder's.

    Args:
        encoder: What was exported.
        expected: Its latents of the check pictures, see `check_latents`.
        card: The model card that was written.
        folder: The version folder.
        decoder: What was exported with it, whose images of those latents are compared as well.

    Raises:
        ExportError: They differ, or a server could not run it.
    """
    if calls := PYTHON_OPERATIONS & _operations(folder):
        raise ExportError(
            f"The encoder calls Python while it runs ({', '.join(sorted(calls))}), which a server cannot; "
            "write that part with keras.ops or TensorFlow operations."
        )
    pixels = check_pictures(card.image_shape)
    files = tf.constant([pixels_to_png(image) for image in pixels])
    signatures = tf.saved_model.load(str(folder)).signatures
    answers = {
        SIGNATURE_FLOAT: signatures[SIGNATURE_FLOAT](**{IMAGES: tf.constant(pixels.astype(np.float32) / 255.0)}),
        SIGNATURE_UINT8: signatures[SIGNATURE_UINT8](**{IMAGES: tf.constant(pixels)}),
        SIGNATURE_BYTES: signatures[SIGNATURE_BYTES](**{IMAGE_BYTES: files}),
    }
    scale = float(np.abs(expected).max()) or 1.0
    for name, answer in answers.items():
        difference = float(np.abs(answer[LATENTS].numpy() - expected).max()) / scale
        if not difference <= tolerance(encoder):
            raise ExportError(
                f"The exported {name!r} differs from Keras by {difference:.2g} of the largest latent value."
            )
    if decoder is not None:
        answer = signatures[SIGNATURE_DECODE](**{LATENTS: tf.constant(expected)})
        _check_images(answer[IMAGES].numpy(), decoder(tf.constant(expected)).numpy(), tolerance(decoder))
    (text,) = signatures[SIGNATURE_DESCRIBE](**{ROWS: tf.constant([0])})[MODEL_CARD].numpy()
    if ModelCard.from_json(text) != card:
        raise ExportError("The exported model card differs from what was written.")


def _check_images(images: npt.NDArray[np.float32], expected: npt.NDArray[np.float32], allowed: float) -> None:
    if not np.isfinite(expected).all():
        raise ExportError("The decoder's images are not finite (NaN or infinite); check its weights.")
    difference = float(np.abs(images - expected).max()) if images.shape == expected.shape else np.inf
    if not difference <= allowed:
        raise ExportError(f"The exported {SIGNATURE_DECODE!r} differs from Keras by {difference:.2g}; white is 1.")


def _check_different(latents: npt.NDArray[np.float32], pixels: npt.NDArray[np.uint8], fed: str) -> None:
    pairs = [
        (first, second)
        for first, second in itertools.combinations(range(len(pixels)), 2)
        if np.abs(pixels[first].astype(np.int16) - pixels[second]).mean() >= DIFFERENT_PICTURES
    ]
    same = [pair for pair in pairs if np.allclose(latents[pair[0]], latents[pair[1]], rtol=SAME, atol=0.0)]
    if same:
        seen = ", all zeros" if not latents[list(same[0])].any() else ""
        raise ExportError(
            f"The encoder gives different images the same latent ({len(same)} of {len(pairs)} pairs{seen}), "
            f"so that a search could not tell them apart. {fed}"
        )
    spread = max((float(np.abs(latents[a] - latents[b]).max()) for a, b in pairs), default=np.inf)
    if spread < SUSPICIOUS * float(np.abs(latents).max()):
        log.warning("The encoder's latents of very different images are nearly the same. %s", fed)


def _in_range_of(encoder: AdaptedEncoder, pixels: npt.NDArray[np.uint8]) -> Any:
    """Return pixels as the encoder wants them, straight from the bytes and not through `to_range`."""
    floats = pixels.astype(np.float32)
    values = {"0-1": floats / 255.0, "0-255": floats, "-1-1": floats / 127.5 - 1.0}[encoder.input_range]
    return tf.cast(values, encoder.dtype)


def _natural_noise(rng: np.random.Generator, height: int, width: int) -> Any:
    """Return noise `[h, w]` whose amplitude falls with the frequency, as in photographs; deviation 1."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, np.newaxis], np.fft.fftfreq(width))
    frequency[0, 0] = np.inf
    noise = np.fft.ifft2(np.fft.fft2(rng.standard_normal((height, width))) / frequency).real
    return noise / (noise.std() or 1.0)


def _layers(model: Any) -> list[Any]:
    return [model, *(inner for layer in getattr(model, "layers", []) for inner in _layers(layer))]


def _operations(folder: Path) -> set[str]:
    (graph,) = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs
    bodies = [graph.graph_def.node, *(function.node_def for function in graph.graph_def.library.function)]
    return {node.op for body in bodies for node in body}
