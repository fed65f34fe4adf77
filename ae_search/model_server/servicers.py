"""TensorFlow Serving's two gRPC services over the embedded server's versions; its texts, as seen on 2.20.

Methods learn of requests that are no message, or one that is not worth reading.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from inspect import isasyncgenfunction
from typing import Any, Protocol

import grpc
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
    regression_pb2,
)

from ae_search.contract import SIGNATURE_FLOAT
from ae_search.model_server.failures import unforeseen
from ae_search.model_server.metrics import ServerMetrics
from ae_search.model_server.predicting import Predicting
from ae_search.model_server.refusal import NO_MESSAGE, RequestRefused
from ae_search.model_server.served_model import ServedModel
from ae_search.model_server.structure import check_predict_request
from ae_search.model_server.versions import VersionStatus

log = logging.getLogger(__name__)

SIGNATURE_DEF = "signature_def"
PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
# What is read in a moment whatever it holds; the requests of all methods but Predict are below it.
SMALL_BYTES = 64 * 2**10


def register(server: Any, service: str, methods: Mapping[Callable[..., Any], Any]) -> None:
    """Add methods of a service to a server; the others of that service are UNIMPLEMENTED.

    What is generated for a service raises when it cannot read a request, and gRPC logs a traceback each time: a
    stranger can fill the log.

    Args:
        server: A `grpc.aio.Server`.
        service: Full name of the service.
        methods: Class of the request by method, which takes request and context, and is an asynchronous generator where
            it answers with a stream. The request is a `RequestRefused` where it cannot be read.
    """
    handlers = {}
    for method, request in methods.items():
        kind = (
            grpc.unary_stream_rpc_method_handler if isasyncgenfunction(method) else grpc.unary_unary_rpc_method_handler
        )
        handlers[method.__name__] = kind(method, functools.partial(_read, request), _written)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))


def _read(request: Any, data: bytes) -> Any:
    try:
        if len(data) > SMALL_BYTES:
            _check(request, data)
        return request.FromString(data)
    except DecodeError:
        return RequestRefused(grpc.StatusCode.INTERNAL, NO_MESSAGE)
    except RequestRefused as refused:
        return refused


def _check(request: Any, data: bytes) -> None:
    if request is predict_pb2.PredictRequest:
        check_predict_request(data)
    else:
        text = f"The request has {len(data)} bytes; at most {SMALL_BYTES} are accepted for this method."
        raise RequestRefused(grpc.StatusCode.INVALID_ARGUMENT, text)


def _written(response: Any) -> Any:
    return response.SerializeToString()


class _Measured(Protocol):
    metrics: ServerMetrics | None


def _answering(method: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any, Any], Awaitable[Any]]:
    """Turn a refusal into its gRPC status, and anything unforeseen into INTERNAL; measure when asked to."""

    @functools.wraps(method)
    async def answer(servicer: Any, request: Any, context: Any) -> Any:
        try:
            if isinstance(request, RequestRefused):
                raise request
            return await method(servicer, request)
        except RequestRefused as refused:
            code, text = refused.code, refused.text
        except Exception as error:
            unforeseen(log, f"{method.__name__} failed", error)
            code, text = grpc.StatusCode.INTERNAL, f"{method.__name__} failed: {type(error).__name__}."
        return await context.abort(code, text)

    @functools.wraps(method)
    async def measure(servicer: _Measured, request: Any, context: Any) -> Any:
        metrics = servicer.metrics
        if metrics is None:
            return await answer(servicer, request, context)
        started = time.perf_counter()
        code = grpc.StatusCode.OK
        try:
            with metrics.in_flight():
                return await answer(servicer, request, context)
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED
            raise
        except grpc.aio.AbortError:
            code = context.code()
            raise
        finally:
            metrics.observe(method.__name__, code, time.perf_counter() - started)

    return measure


class PredictionServicer:
    """Predict and GetModelMetadata; Classify and Regress, which no signature here is for."""

    def __init__(self, model: ServedModel, predicting: Predicting, metrics: ServerMetrics | None = None) -> None:
        self._model = model
        self._predicting = predicting
        self.metrics = metrics

    def add_to(self, server: Any) -> None:
        """Answer the requests to a server."""
        methods = {
            self.Predict: predict_pb2.PredictRequest,
            self.Classify: classification_pb2.ClassificationRequest,
            self.Regress: regression_pb2.RegressionRequest,
            self.GetModelMetadata: get_model_metadata_pb2.GetModelMetadataRequest,
        }
        register(server, PREDICTION_SERVICE, methods)

    @_answering
    async def Predict(self, request: Any) -> Any:
        """Run a signature on the request's inputs."""
        return await self._predicting.answer(request)

    @_answering
    async def Classify(self, request: Any) -> Any:
        """Refuse a request for a signature that is not for classification."""
        self._refuse_method(request, "classification", "tensorflow/serving/classify")

    @_answering
    async def Regress(self, request: Any) -> Any:
        """Refuse a request for a signature that is not for regression."""
        self._refuse_method(request, "regression", "tensorflow/serving/regress")

    def _refuse_method(self, request: Any, what: str, wanted: str) -> None:
        """Refuse what TensorFlow Serving would, as the signatures of this model are for Predict."""
        servable = self._model.servable(request.model_spec)
        signature = request.model_spec.signature_name or SIGNATURE_FLOAT
        servable.output_names(signature)  # which is refused where there is no such signature
        was = servable.signature_defs[signature].method_name
        text = f"Expected {what} signature method_name to be {wanted}. Was: {was}"
        raise RequestRefused(grpc.StatusCode.INVALID_ARGUMENT, text)

    @_answering
    async def GetModelMetadata(self, request: Any) -> Any:
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
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = servable.version
        response.metadata[SIGNATURE_DEF].Pack(signatures)
        return response


class ModelServicer:
    """GetModelStatus."""

    def __init__(self, model: ServedModel, metrics: ServerMetrics | None = None) -> None:
        self._model = model
        self.metrics = metrics

    def add_to(self, server: Any) -> None:
        """Answer the requests to a server."""
        register(server, MODEL_SERVICE, {self.GetModelStatus: get_model_status_pb2.GetModelStatusRequest})

    @_answering
    async def GetModelStatus(self, request: Any) -> Any:
        """Return what became of one version, or of all that were seen, newest first."""
        spec = request.model_spec
        none_found = f"Could not find any versions of model {spec.name}"
        if not spec.name:  # unlike Predict, it does not ask for one
            raise RequestRefused(grpc.StatusCode.NOT_FOUND, none_found)
        self._model.check_name(spec, none_found)
        version = self._model.asked_version(spec)
        found = [s for s in self._model.versions.statuses() if version in (None, s.version)]
        if not found:
            text = none_found if version is None else f"Could not find version {version} of model {spec.name}"
            raise RequestRefused(grpc.StatusCode.NOT_FOUND, text)
        return get_model_status_pb2.GetModelStatusResponse(model_version_status=map(_status_proto, found))


def _status_proto(status: VersionStatus) -> Any:
    proto = get_model_status_pb2.ModelVersionStatus(version=status.version, state=status.state.value)
    proto.status.error_code = status.error_code
    proto.status.error_message = status.error
    return proto
