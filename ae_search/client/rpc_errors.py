"""The one map from a gRPC status to an error of this package."""

import grpc

from ae_search.errors import (
    AccessDeniedError,
    AeSearchError,
    ImageError,
    ModelNotServedError,
    ServerAnswerError,
    ServerTimeoutError,
    ServerUnavailableError,
)

Code = grpc.StatusCode
ERRORS: dict[grpc.StatusCode, type[AeSearchError]] = {
    Code.OK: ServerAnswerError,  # a call that failed with OK
    Code.UNAVAILABLE: ServerUnavailableError,
    Code.RESOURCE_EXHAUSTED: ServerUnavailableError,
    Code.CANCELLED: ServerUnavailableError,
    Code.ABORTED: ServerUnavailableError,
    Code.DEADLINE_EXCEEDED: ServerTimeoutError,
    Code.NOT_FOUND: ModelNotServedError,
    Code.FAILED_PRECONDITION: ModelNotServedError,
    Code.UNAUTHENTICATED: AccessDeniedError,
    Code.PERMISSION_DENIED: AccessDeniedError,
    Code.INVALID_ARGUMENT: ImageError,
    Code.OUT_OF_RANGE: ImageError,
    Code.UNKNOWN: ServerAnswerError,
    Code.INTERNAL: ServerAnswerError,
    Code.DATA_LOSS: ServerAnswerError,
    Code.UNIMPLEMENTED: ServerAnswerError,
    Code.ALREADY_EXISTS: ServerAnswerError,
}
ADVICE: dict[type[AeSearchError], str] = {
    ServerUnavailableError: "{target} cannot be reached or takes no more work; is the model server running there?",
    ServerTimeoutError: "{target} did not answer within {timeout_s:g} s; allow more with --timeout or send less.",
    ModelNotServedError: "{target} does not serve {model} as asked; name the model with --model-name.",
    AccessDeniedError: "{target} wants other credentials.",
    ImageError: "{target} refused the images.",
    ServerAnswerError: "{target} answered what TensorFlow Serving would not; is it a TensorFlow Serving gRPC port?",
}
MAX_DETAILS = 300


def from_rpc(error: grpc.RpcError, *, target: str, model: str, timeout_s: float) -> AeSearchError:
    """Return the error to raise for a failed call.

    Args:
        error: What gRPC raised.
        target: Who was called.
        model: What was asked for, for example "fashion version 3".
        timeout_s: Seconds that the request was allowed.
    """
    code = error.code()
    kind = ERRORS.get(code, ServerAnswerError)
    details = " ".join(str(error.details() or "").split())[:MAX_DETAILS]
    advice = ADVICE[kind].format(target=target, model=model, timeout_s=timeout_s)
    return kind(f"{advice} ({code.name}: {details})")
