"""TensorFlow Serving's two gRPC services over the embedded server's versions; its texts, as seen on 2.20."""

import functools
import logging
from collections.abc import Callable
from typing import Any

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from ae_search.contract import DEFAULT_MODEL_NAME, SIGNATURE_FLOAT
from ae_search.model_server.refusal import RequestRefused
from ae_search.model_server.servable import Servable
from ae_search.model_server.tensors import encode_tensor
from ae_search.model_server.versions import ModelVersions, VersionStatus

log = logging.getLogger(__name__)

SIGNATURE_DEF = "signature_def"


def _answering(method: Callable[[Any, Any], Any]) -> Callable[[Any, Any, grpc.ServicerContext], Any]:
    """Turn a refusal into its gRPC status, and anything unforeseen into INTERNAL."""

    @functools.wraps(method)
    def answer(servicer: Any, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return method(servicer, request)
        except RequestRefused as refused:
            code, text = refused.code, refused.text
        except Exception as error:
            log.exception("%s failed", method.__name__)
            code, text = grpc.StatusCode.INTERNAL, f"{method.__name__} failed: {type(error).__name__}."
        return context.abort(code, text)

    return answer


class ServedModel:
    """The one model of this server, found by the `ModelSpec` of a request.

    Attributes:
        name: Its name; it also answers to "default", TensorFlow Serving's own default model name.
        versions: Its versions.
    """

    def __init__(self, name: str, versions: ModelVersions) -> None:
        self.name = name
        self.versions = versions

    def check_name(self, spec: Any, not_found: str) -> None:
        """Refuse a request for another model.

        Args:
            spec: A `tensorflow.serving.ModelSpec`.
            not_found: What to say where the name is unknown.

        Raises:
            RequestRefused: No name, or an unknown one.
        """
        if not spec.name:
            raise RequestRefused(grpc.StatusCode.INVALID_ARGUMENT, "ModelSpec has no name specified.")
        if spec.name not in (self.name, DEFAULT_MODEL_NAME):
            raise RequestRefused(grpc.StatusCode.NOT_FOUND, not_found)

    def servable(self, spec: Any) -> Servable:
        """Return the version that a `ModelSpec` asks for.

        Raises:
            RequestRefused: The model or the version is not served.
        """
        version = asked_version(spec)
        wanted = f"Latest({spec.name})" if version is None else f"Specific({spec.name}, {version})"
        not_found = f"Servable not found for request: {wanted}"
        self.check_name(spec, not_found)
        servable = self.versions.servable(version)
        if servable is None:
            raise RequestRefused(grpc.StatusCode.NOT_FOUND, not_found)
        return servable


def asked_version(spec: Any) -> int | None:
    """Return the version that a `ModelSpec` pins, None for the newest.

    Raises:
        RequestRefused: It asks by label; this server assigns none.
    """
    if spec.version_label:
        text = f"Unrecognized servable version label: {spec.version_label}"
        raise RequestRefused(grpc.StatusCode.INVALID_ARGUMENT, text)
    return int(spec.version.value) if spec.HasField("version") else None


class PredictionServicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata; the other calls stay UNIMPLEMENTED."""

    def __init__(self, model: ServedModel, *, as_content: bool = False) -> None:
        self._model = model
        self._as_content = as_content

    @_answering
    def Predict(self, request: Any) -> Any:
        """Run a signature on the request's inputs."""
        signature = request.model_spec.signature_name or SIGNATURE_FLOAT
        servable = self._model.servable(request.model_spec)
        names = servable.output_names(signature, request.output_filter)
        outputs = servable.run_protos(signature, request.inputs)
        response = predict_pb2.PredictResponse()
        _fill_spec(response.model_spec, request.model_spec.name, servable.version)
        response.model_spec.signature_name = signature
        for name in names:
            response.outputs[name].CopyFrom(encode_tensor(outputs[name], as_content=self._as_content))
        return response

    @_answering
    def GetModelMetadata(self, request: Any) -> Any:
        """Return the signatures of a version."""
        servable = self._model.servable(request.model_spec)
        if not request.metadata_field:
            text = "GetModelMetadataRequest must specify at least one metadata_field"
            raise RequestRefused(grpc.StatusCode.INVALID_ARGUMENT, text)
        for field in request.metadata_field:
            if field != SIGNATURE_DEF:
                raise RequestRefused(grpc.StatusCode.INVALID_ARGUMENT, f"Metadata field {field} is not supported")
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature_def in servable.signature_defs.items():
            signatures.signature_def[name].CopyFrom(signature_def)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        _fill_spec(response.model_spec, request.model_spec.name, servable.version)
        response.metadata[SIGNATURE_DEF].Pack(signatures)
        return response


class ModelServicer(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus; HandleReloadConfigRequest stays UNIMPLEMENTED."""

    def __init__(self, model: ServedModel) -> None:
        self._model = model

    @_answering
    def GetModelStatus(self, request: Any) -> Any:
        """Return what became of one version, or of all that were seen, newest first."""
        spec = request.model_spec
        none_found = f"Could not find any versions of model {spec.name}"
        self._model.check_name(spec, none_found)
        version = asked_version(spec)
        found = [s for s in self._model.versions.statuses() if version in (None, s.version)]
        if not found:
            text = none_found if version is None else f"Could not find version {version} of model {spec.name}"
            raise RequestRefused(grpc.StatusCode.NOT_FOUND, text)
        return get_model_status_pb2.GetModelStatusResponse(model_version_status=map(_status_proto, found))


def _fill_spec(spec: Any, name: str, version: int) -> None:
    """Say which model and version answered, the model under the name it was asked by."""
    spec.name = name
    spec.version.value = version


def _status_proto(status: VersionStatus) -> Any:
    proto = get_model_status_pb2.ModelVersionStatus(version=status.version, state=status.state.value)
    proto.status.error_code = status.error_code
    proto.status.error_message = status.error
    return proto
