"""The official stubs in the usual way: make_tensor_proto, a blocking Predict, make_ndarray."""

import numpy as np
import numpy.typing as npt


class OfficialClient:
    """What the tutorials of TensorFlow Serving write."""

    def __init__(self, address: str, model: str) -> None:
        import grpc
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

        self._tf, self._predict_pb2, self._model = tf, predict_pb2, model
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(address))

    def encode(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the latents of images, floats in [0, 1]."""
        request = self._predict_pb2.PredictRequest()
        request.model_spec.name = self._model
        request.model_spec.signature_name = "serving_default"
        request.inputs["images"].CopyFrom(self._tf.make_tensor_proto(images))
        response = self._stub.Predict(request, timeout=30)
        latents: npt.NDArray[np.float32] = self._tf.make_ndarray(response.outputs["latents"])
        return latents
