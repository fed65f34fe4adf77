"""SavedModels that do more than compute: they write a file when they are loaded, described, restored or warmed up."""

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.trackable.base import Trackable
from tensorflow_serving.apis import prediction_log_pb2

from ae_search.contract import ModelCard

CARD = ModelCard(name="m", version=1, fingerprint="ab" * 32, image_shape=(2, 2, 3), latent_dim=12)
IMAGES = tf.TensorSpec([None, 2, 2, 3], tf.float32, name="images")


def write(path):
    return tf.io.write_file(str(path), "written by a model")


class Resource(tf.saved_model.experimental.TrackableResource):
    """A table that is made, and filled, with a side effect."""

    def __init__(self, created, initialised):
        super().__init__()
        self._created, self._initialised = created, initialised

    def _create_resource(self):
        if self._created:
            write(self._created)
        return tf.raw_ops.HashTableV2(key_dtype=tf.int64, value_dtype=tf.int64)

    def _initialize(self):
        if self._initialised:
            write(self._initialised)


class Restored(Trackable):
    """An object whose state is restored with a side effect."""

    def __init__(self, path):
        self._path = path

    def _serialize_to_tensors(self):
        return {"state": tf.constant(1.0)}

    def _restore_from_tensors(self, tensors):
        write(self._path)
        return tensors["state"]


def write_model(folder, kind=None, path=None):
    """Save an encoder whose latents are the pixels, with one function that writes a file."""
    module = tf.Module()
    module.bias = tf.Variable(tf.zeros([12]))
    card = CARD.to_json()

    @tf.function(input_signature=[IMAGES])
    def encode(images):
        if kind == "encode":
            write(path)
        return {"latents": tf.reshape(images, [-1, 12]) + module.bias}

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32, name="n")])
    def inner(n):
        write(path)
        return n

    @tf.function(input_signature=[])
    def describe():
        if kind == "describe":
            write(path)
        if kind == "branch":
            tf.cond(tf.random.uniform([]) < 2.0, lambda: inner(1), lambda: 0)
        if kind == "loop":
            tf.while_loop(lambda n: n < 1, lambda n: (inner(n) + 1,), (0,))
        return {"model_card": tf.constant([card])}

    if kind in ("create", "initialise"):
        module.resource = Resource(path if kind == "create" else None, path if kind == "initialise" else None)
        handle = module.resource.resource_handle
        size = tf.function(lambda: tf.raw_ops.LookupTableSizeV2(table_handle=handle))
        module.size = size.get_concrete_function()  # what nothing uses is not made
    if kind == "restore":
        module.state = Restored(path)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": encode, "describe": describe})
    if kind == "encode":
        extra = folder / "assets.extra"
        extra.mkdir()
        log = prediction_log_pb2.PredictionLog()
        request = log.predict_log.request
        request.model_spec.signature_name = "serving_default"
        request.inputs["images"].CopyFrom(tf.make_tensor_proto(tf.zeros([1, 2, 2, 3])))
        with tf.io.TFRecordWriter(str(extra / "tf_serving_warmup_requests")) as writer:
            writer.write(log.SerializeToString())
    return folder


def changed(folder, change):
    """Change the graph of a saved model."""
    path = folder / "saved_model.pb"
    saved_model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    change(saved_model.meta_graphs[0])
    path.write_bytes(saved_model.SerializeToString())
    return folder


def function(meta_graph, part):
    """The function with a part of a name in its name."""
    (found,) = [one for one in meta_graph.graph_def.library.function if part in one.signature.name]
    return found
