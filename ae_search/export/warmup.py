"""The warm-up records of an exported version.

TensorFlow Serving replays them while it loads: the first real request is not slow, and a version with missing
variables fails to load instead of being served (format: tensorflow.org/tfx/serving/saved_model_warmup).
"""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from ae_search.contract import (
    IMAGE_BYTES,
    IMAGES,
    LATENTS,
    ROWS,
    SIGNATURE_BYTES,
    SIGNATURE_DECODE,
    SIGNATURE_DESCRIBE,
    SIGNATURE_FLOAT,
    SIGNATURE_UINT8,
    ModelCard,
)
from ae_search.image_file import pixels_to_png

WARMUP_FILE = Path("assets.extra", "tf_serving_warmup_requests")
BATCHES = (1, 32)


def write_warmup(folder: Path, card: ModelCard) -> None:
    """Write a record for each signature at batch 1 and 32.

    Args:
        folder: The version folder.
        card: Names the model and its image shape, and says whether it decodes.
    """
    path = folder / WARMUP_FILE
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in _requests(card):
            request = predict_pb2.PredictRequest()
            request.model_spec.name = card.name
            request.model_spec.signature_name = signature
            for name, value in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())


def _requests(card: ModelCard) -> list[tuple[str, dict[str, Any]]]:
    grey = np.full(card.image_shape, 128, np.uint8)
    jpeg = tf.io.encode_jpeg(grey).numpy()
    requests: list[tuple[str, dict[str, Any]]] = []
    for batch in BATCHES:
        pixels = np.repeat(grey[np.newaxis], batch, axis=0)
        files = [jpeg if position % 2 else pixels_to_png(grey) for position in range(batch)]
        requests += [
            (SIGNATURE_FLOAT, {IMAGES: pixels.astype(np.float32) / 255.0}),
            (SIGNATURE_UINT8, {IMAGES: pixels}),
            (SIGNATURE_BYTES, {IMAGE_BYTES: files}),
            (SIGNATURE_DESCRIBE, {ROWS: np.zeros(batch, np.int32)}),
        ]
        if card.decodes:
            requests.append((SIGNATURE_DECODE, {LATENTS: np.zeros((batch, card.latent_dim), np.float32)}))
    return requests
