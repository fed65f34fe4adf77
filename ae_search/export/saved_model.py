"""Write an encoder as one SavedModel version folder that TensorFlow Serving loads.

EXPORT/<model>/<version>/
  saved_model.pb, variables/                   four signatures, see `contract`
  assets.extra/tf_serving_warmup_requests      replayed by the server while it loads the version
  batching_params.pbtxt                        read by a server that batches, see `batching`
"""

import hashlib
import json
import logging
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ae_search.contract import (
    IMAGE_BYTES,
    IMAGES,
    LATENTS,
    MAX_IMAGE_VALUES,
    MAX_LATENT_DIM,
    METRICS,
    MODEL_CARD,
    ROWS,
    SIGNATURE_BYTES,
    SIGNATURE_DESCRIBE,
    SIGNATURE_FLOAT,
    SIGNATURE_UINT8,
    Metric,
    ModelCard,
)
from ae_search.data.decode import PREPROCESSING, decode_image
from ae_search.errors import ConfigurationError, ExportError
from ae_search.export.batching import write_batching
from ae_search.export.warmup import write_warmup
from ae_search.files import locked, make_folder, new_folder
from ae_search.image_file import pixels_to_png
from ae_search.model import histograms  # noqa: F401  Keras finds its layers in a .keras file only once it is imported.

log = logging.getLogger(__name__)

# Relative to the largest latent value; float32 sums in another order differ by about 1e-6.
PARITY_TOLERANCE = 1e-4


def export_encoder(
    encoder: Any,
    to: Path,
    *,
    image_shape: tuple[int, int, int] | None = None,
    metric: Metric = "angular",
    data: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
) -> Path:
    """Export any Keras model from images to vectors as the next version below `to`.

    Args:
        encoder: Keras model: float32 `[n, h, w, c]` in [0, 1], c being 1 or 3, to `[n, d]`.
        to: Model base path; its name is the model's. Its versions are whole numbers, the new one the highest.
        image_shape: `(h, w, c)`, needed where the model leaves its sides open.
        metric: Distance to compare latents with: "angular" or "euclidean".
        data: Summary of the training data, for the model card.
        training: Figures of the training, for the model card.

    Returns:
        The version folder. It appears with one rename, complete and checked, or not at all.

    Raises:
        ConfigurationError: The model does not map images to vectors, or `to` cannot be written.
        ExportError: What was written answers otherwise than Keras.
    """
    shape, latent_dim = _shapes(encoder, image_shape)
    if metric not in METRICS:
        raise ConfigurationError(f"--metric must be one of {', '.join(METRICS)}. Received: {metric}.")
    if not re.fullmatch(r"[\w.-]+", to.resolve().name):
        raise ConfigurationError(f"The model's name {to.resolve().name!r} must be letters, digits, '_', '.' or '-'.")
    make_folder(to, "export")
    with _only_exporter(to):
        card = ModelCard(
            name=to.resolve().name,
            version=max(versions(to), default=0) + 1,
            fingerprint=fingerprint(encoder, shape),
            image_shape=shape,
            latent_dim=latent_dim,
            metric=metric,
            data=data or {},
            training=training or {},
            keras=keras.__version__,
            tensorflow=tf.__version__,
        )
        final = to / str(card.version)
        with new_folder(final) as folder:
            _write(encoder, card, folder)
            write_warmup(folder, card)
            write_batching(folder, card)
            _check_parity(encoder, card, folder)
            _warn_of_refusal(folder)
    return final


def load_encoder(path: Path) -> Any:
    """Load an encoder from a `.keras` file, without running code from it.

    Raises:
        ConfigurationError: There is no such file, or Keras cannot load it safely.
    """
    if not path.is_file() or path.suffix != ".keras":
        raise ConfigurationError(f"--encoder takes a .keras file. Received: {path}, which is none.")
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # zip, HDF5, JSON and Keras each raise their own
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ConfigurationError(f"{path} cannot be loaded by Keras: {reason[0]}") from error


def versions(base: Path) -> list[int]:
    """Return the version numbers below a model base path, as TensorFlow Serving sees them, ascending."""
    if not base.is_dir():
        return []
    return sorted(
        int(path.name) for path in base.iterdir() if path.is_dir() and re.fullmatch(r"[0-9]{1,18}", path.name)
    )


def fingerprint(encoder: Any, image_shape: tuple[int, int, int]) -> str:
    """Return the sha256 over architecture, weights and preprocessing: equal for equal latents."""
    digest = hashlib.sha256()
    digest.update(json.dumps([PREPROCESSING, list(image_shape)]).encode())
    digest.update(
        json.dumps(keras.saving.serialize_keras_object(encoder)["config"], sort_keys=True, default=str).encode()
    )
    for variable in encoder.weights:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(variable))
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def _shapes(encoder: Any, image_shape: tuple[int, int, int] | None) -> tuple[tuple[int, int, int], int]:
    """Return image shape and latent size, or say why this model cannot be exported."""
    takes, gives = getattr(encoder, "input_shape", None), getattr(encoder, "output_shape", None)
    if not isinstance(takes, tuple) or len(takes) != 4 or takes[3] not in (1, 3):
        raise ConfigurationError(f"The encoder must take images [n, h, w, 1 or 3]. Received: input_shape={takes}.")
    if not isinstance(gives, tuple) or len(gives) != 2 or gives[1] is None:
        raise ConfigurationError(
            f"The encoder must return vectors [n, d]; end it with Flatten or GlobalAveragePooling2D. "
            f"Received: output_shape={gives}."
        )
    wanted = image_shape or (takes[1], takes[2], takes[3])
    if None in wanted or any(side not in (None, want) for side, want in zip(takes[1:], wanted, strict=True)):
        raise ConfigurationError(f"The encoder takes {takes[1:]}; give an --image-size that fits. Received: {wanted}.")
    if wanted[0] * wanted[1] * wanted[2] > MAX_IMAGE_VALUES or not 0 < gives[1] <= MAX_LATENT_DIM:
        raise ConfigurationError(
            f"Images may have {MAX_IMAGE_VALUES} values and latents {MAX_LATENT_DIM}: more do not fit into a message. "
            f"Received: images {wanted}, latents of {gives[1]}."
        )
    return wanted, gives[1]


@contextmanager
def _only_exporter(base: Path) -> Iterator[None]:
    """Let one export at a time choose a version number."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(base / ".lock", wait=True))
        except OSError as error:
            raise ConfigurationError(f"{base} cannot be locked for an export: {error.strerror}.") from error
        yield


def _write(encoder: Any, card: ModelCard, folder: Path) -> None:
    """Write saved_model.pb and variables/. Every image input passes ensure_shape before any kernel sees it."""
    shape = card.image_shape

    def encode(images: Any) -> dict[str, Any]:
        images = tf.ensure_shape(images, (None, *shape))
        # oneDNN's fused convolution answers no rows with a wrong shape (seen on 2.21); say what is wrong instead.
        with tf.control_dependencies([tf.debugging.assert_positive(tf.shape(images)[0], "the batch has no image")]):
            images = tf.identity(images)
        return {LATENTS: tf.cast(encoder(images, training=False), tf.float32)}

    def encode_uint8(images: Any) -> dict[str, Any]:
        return encode(tf.cast(tf.ensure_shape(images, (None, *shape)), tf.float32) / 255.0)

    def encode_bytes(image_bytes: Any) -> dict[str, Any]:
        with tf.device("/CPU:0"):
            flat = tf.ensure_shape(image_bytes, (None,))
            spec = tf.TensorSpec(shape, tf.float32)
            images = tf.map_fn(lambda one: decode_image(one, shape), flat, fn_output_signature=spec)
        return encode(images)

    # A batching server joins requests by their first axis, so that a signature without one could not be called there.
    one_row = tf.constant([0], tf.int32)

    def describe(rows: Any = one_row) -> dict[str, Any]:
        return {MODEL_CARD: tf.fill(tf.shape(rows), card.to_json())}

    archive = keras.export.ExportArchive()
    archive.track(encoder)
    for name, function, inputs in (
        (SIGNATURE_FLOAT, encode, [tf.TensorSpec((None, *shape), tf.float32, name=IMAGES)]),
        (SIGNATURE_UINT8, encode_uint8, [tf.TensorSpec((None, *shape), tf.uint8, name=IMAGES)]),
        (SIGNATURE_BYTES, encode_bytes, [tf.TensorSpec((None,), tf.string, name=IMAGE_BYTES)]),
        (SIGNATURE_DESCRIBE, describe, [tf.TensorSpec((None,), tf.int32, name=ROWS)]),
    ):
        archive.add_endpoint(name, function, input_signature=inputs)
    archive.write_out(str(folder), verbose=False)


def _check_parity(encoder: Any, card: ModelCard, folder: Path) -> None:
    """Load what was written and compare its latents with the Keras encoder's.

    Raises:
        ExportError: They differ.
    """
    pixels = np.random.default_rng(0).integers(0, 256, (4, *card.image_shape), np.uint8)
    images = pixels.astype(np.float32) / 255.0
    expected = keras.ops.convert_to_numpy(encoder(images, training=False))
    if not np.isfinite(expected).all():
        raise ExportError("The encoder's latents are not finite; train it anew, perhaps with a lower learning rate.")
    signatures = tf.saved_model.load(str(folder)).signatures
    files = tf.constant([pixels_to_png(image) for image in pixels])
    answers = {
        SIGNATURE_FLOAT: signatures[SIGNATURE_FLOAT](**{IMAGES: tf.constant(images)}),
        SIGNATURE_UINT8: signatures[SIGNATURE_UINT8](**{IMAGES: tf.constant(pixels)}),
        SIGNATURE_BYTES: signatures[SIGNATURE_BYTES](**{IMAGE_BYTES: files}),
    }
    scale = float(np.abs(expected).max()) or 1.0
    for name, answer in answers.items():
        difference = float(np.abs(answer[LATENTS].numpy() - expected).max()) / scale
        if not difference <= PARITY_TOLERANCE:
            raise ExportError(
                f"The exported {name!r} differs from Keras by {difference:.2g} of the largest latent value."
            )
    (text,) = signatures[SIGNATURE_DESCRIBE](**{ROWS: tf.constant([0])})[MODEL_CARD].numpy()
    if ModelCard.from_json(text) != card:
        raise ExportError("The exported model card differs from what was written.")


def _warn_of_refusal(folder: Path) -> None:
    """Say now what whoever loads the model would be told: an encoder of the user's own may print, or read files."""
    from ae_search.model_server.program import check_program  # here, because it brings gRPC along

    try:
        check_program(folder)
    except ExportError as error:
        log.warning("%s", error)
