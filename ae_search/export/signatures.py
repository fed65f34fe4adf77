"""The signatures of an exported version: what the graph does with what it is sent."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

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
from ae_search.data.decode import decode_image
from ae_search.export.adapter import AdaptedEncoder
from ae_search.export.decoder import AdaptedDecoder

# A function and what it takes.
Endpoint = tuple[Callable[[Any], Any], Any]


def write_signatures(encoder: AdaptedEncoder, decoder: AdaptedDecoder | None, card: ModelCard, folder: Path) -> None:
    """Write saved_model.pb and variables/.

    Args:
        encoder: What is exported.
        decoder: The way back, None where there is none.
        card: The model card.
        folder: The version folder.
    """
    archive = keras.export.ExportArchive()
    archive.track(encoder.model)
    endpoints = _encoding(encoder, card) | {SIGNATURE_DESCRIBE: _describing(card)}
    if decoder is not None:
        archive.track(decoder.model)
        endpoints[SIGNATURE_DECODE] = _decoding(decoder, card)
    for name, (function, spec) in endpoints.items():
        archive.add_endpoint(name, function, input_signature=[spec])
    archive.write_out(str(folder), verbose=False)


def _encoding(encoder: AdaptedEncoder, card: ModelCard) -> dict[str, Endpoint]:
    """Return the ways from images to latents. Every input passes ensure_shape before any kernel sees it."""
    shape = card.image_shape

    def encode(images: Any) -> dict[str, Any]:
        images = tf.ensure_shape(images, (None, *shape))
        return {LATENTS: encoder(_some(images, "the batch has no image"))}

    def encode_uint8(images: Any) -> dict[str, Any]:
        return encode(tf.cast(tf.ensure_shape(images, (None, *shape)), tf.float32) / 255.0)

    def encode_bytes(image_bytes: Any) -> dict[str, Any]:
        with tf.device("/CPU:0"):
            flat = tf.ensure_shape(image_bytes, (None,))
            spec = tf.TensorSpec(shape, tf.float32)
            images = tf.map_fn(lambda one: decode_image(one, shape, card.fit), flat, fn_output_signature=spec)
        return encode(images)

    return {
        SIGNATURE_FLOAT: (encode, tf.TensorSpec((None, *shape), tf.float32, name=IMAGES)),
        SIGNATURE_UINT8: (encode_uint8, tf.TensorSpec((None, *shape), tf.uint8, name=IMAGES)),
        SIGNATURE_BYTES: (encode_bytes, tf.TensorSpec((None,), tf.string, name=IMAGE_BYTES)),
    }


def _decoding(decoder: AdaptedDecoder, card: ModelCard) -> Endpoint:
    def decode(latents: Any) -> dict[str, Any]:
        latents = tf.ensure_shape(latents, (None, card.latent_dim))
        return {IMAGES: decoder(_some(latents, "the batch has no latent"))}

    return decode, tf.TensorSpec((None, card.latent_dim), tf.float32, name=LATENTS)


def _describing(card: ModelCard) -> Endpoint:
    # A batching server joins requests by their first axis, so that a signature without one could not be called there.
    one_row = tf.constant([0], tf.int32)

    def describe(rows: Any = one_row) -> dict[str, Any]:
        return {MODEL_CARD: tf.fill(tf.shape(rows), card.to_json())}

    return describe, tf.TensorSpec((None,), tf.int32, name=ROWS)


def _some(rows: Any, otherwise: str) -> Any:
    """Return rows, of which there must be one at least.

    oneDNN's fused convolution answers no rows with a wrong shape (seen on 2.21); say what is wrong instead.
    """
    with tf.control_dependencies([tf.debugging.assert_positive(tf.shape(rows)[0], otherwise)]):
        return tf.identity(rows)
