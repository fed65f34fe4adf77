"""A local encoder with the verbs of the others, and a model whose latents are not always finite."""

import tensorflow as tf

from ae_search.contract import ModelCard
from ae_search.model_server import LocalEncoder

SHAPE, GREY_SHAPE, DIM = (16, 16, 3), (8, 8, 1), 8


class Local(LocalEncoder):
    def end(self):
        """Nothing is open."""


class Sick(tf.Module):
    """Answers NaN for a black image, and the first pixels for others."""

    card = ModelCard("sick", 1, "cd" * 32, SHAPE, DIM).to_json()

    @tf.function(input_signature=[tf.TensorSpec([None, *SHAPE], tf.uint8, name="images")])
    def encode_uint8(self, images):
        values = tf.reshape(tf.cast(tf.ensure_shape(images, [None, *SHAPE]), tf.float32), [-1, 768])
        return {"latents": values[:, :DIM] / tf.reduce_max(values, axis=1, keepdims=True)}

    @tf.function(input_signature=[])
    def describe(self):
        return {"model_card": tf.constant(self.card)}
