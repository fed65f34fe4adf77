"""A real gRPC server of any SavedModel on the official stubs; TensorFlow itself reads and writes its tensors."""

from concurrent import futures

import grpc
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

Code = grpc.StatusCode


class Mixed(tf.Module):
    """Two inputs, two outputs, strings, int64 and a scalar."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 3], tf.float32, name="x"),
            tf.TensorSpec([None], tf.int64, name="times"),
        ]
    )
    def serving_default(self, x, times):
        return {"scaled": x * tf.cast(times, tf.float32)[:, None], "total": tf.reduce_sum(times)}

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.string, name="texts"), tf.TensorSpec([], tf.string, name="end")]
    )
    def join(self, texts, end):
        return {"joined": tf.strings.join([texts, end]), "lengths": tf.strings.length(texts)}

    @tf.function(input_signature=[tf.TensorSpec(None, tf.bfloat16, name="any")])
    def any_rank(self, any):
        return {"twice": any * 2}


def save(path):
    """Save the model as version 7 below a path."""
    model = Mixed()
    signatures = {name: getattr(model, name) for name in ("serving_default", "join", "any_rank")}
    tf.saved_model.save(model, str(path / "7"), signatures)
    return path / "7"


class TensorServer(prediction_service_pb2_grpc.PredictionServiceServicer, model_service_pb2_grpc.ModelServiceServicer):
    """Serves version 7 of "mixed"; `echo` is a model that returns its inputs, as `answer` writes them."""

    def __init__(self, folder):
        self.signatures = tf.saved_model.load(str(folder)).signatures
        saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
        self.signature_defs = saved.meta_graphs[0].signature_def
        self.received, self.failures = [], []
        self.write = tf.make_tensor_proto
        self.forge = None  # changes an answer before it is sent

    def Predict(self, request, context):
        arrays = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        self.received.append((request, arrays))
        if self.failures:
            context.abort(*self.failures.pop(0))
        spec = request.model_spec
        if spec.name not in ("mixed", "echo") or spec.version.value not in (0, 7):
            context.abort(Code.NOT_FOUND, f"Servable not found for request: Latest({spec.name})")
        response = predict_pb2.PredictResponse()
        response.model_spec.name, response.model_spec.version.value = spec.name, 7
        for name, values in (arrays if spec.name == "echo" else self._run(request, context)).items():
            response.outputs[name].CopyFrom(self.write(values))
        if self.forge is not None:
            self.forge(response)
        return response

    def _run(self, request, context):
        name = request.model_spec.signature_name
        if name not in self.signatures:
            context.abort(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
        signature = self.signatures[name]
        wanted = signature.structured_input_signature[1]
        if set(wanted) != set(request.inputs):
            context.abort(Code.INVALID_ARGUMENT, "input size does not match signature")
        try:
            found = signature(**{key: tf.io.parse_tensor(one.SerializeToString(), wanted[key].dtype)
                                 for key, one in request.inputs.items()})  # fmt: skip
        except (tf.errors.InvalidArgumentError, ValueError) as error:
            context.abort(Code.INVALID_ARGUMENT, str(error)[:200])
        chosen = list(request.output_filter) or list(found)
        if not set(chosen) <= set(found):
            context.abort(Code.INVALID_ARGUMENT, "output tensor alias not found in signature")
        return {key: found[key].numpy() for key in chosen}

    def GetModelMetadata(self, request, context):
        if request.model_spec.name != "mixed":
            context.abort(Code.NOT_FOUND, "Could not find any versions of model")
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, one in self.signature_defs.items():
            signatures.signature_def[name].CopyFrom(one)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name, response.model_spec.version.value = "mixed", 7
        response.metadata["signature_def"].Pack(signatures)
        if self.forge is not None:
            self.forge(response)
        return response

    def GetModelStatus(self, request, context):
        response = get_model_status_pb2.GetModelStatusResponse()
        response.model_version_status.add(version=7, state=30)
        return response


def start(servicer):
    """Start a server; return it and its port."""
    server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.max_send_message_length", -1)])
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(servicer, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port
