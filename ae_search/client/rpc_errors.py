"""The one map from a gRPC status to an error of this package."""

import re
from dataclasses import dataclass, replace
from typing import Self

import grpc

from ae_search.client.addresses import proxy_of
from ae_search.contract import checked_version
from ae_search.errors import (
    AccessDeniedError,
    AeSearchError,
    ImageError,
    ModelNotServedError,
    ServerAnswerError,
    ServerTimeoutError,
    ServerUnavailableError,
)
from ae_search.image_file import decoder_words
from ae_search.printable import printable

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
    ServerTimeoutError: "{target} did not answer within {timeout_s:g} s; is it there? Allow more with --timeout.",
    ModelNotServedError: "{target} does not serve {model} as asked; name the model with --model-name.",
    AccessDeniedError: "{target} wants other credentials.",
    ImageError: "{target} refused the {sent}.",
    ServerAnswerError: "{target} answered what TensorFlow Serving would not; is it a TensorFlow Serving gRPC port?",
}
MAX_DETAILS = 300
# What most requests carry, for messages.
IMAGES = "images"
TLS_FAILED = re.compile(r"handshak|certificate|verification check", re.IGNORECASE)
# tensorflow_serving/batching/batching_session.cc: other pixels of another client are in the same run.
JOINED = "from different tasks have different shapes"
NO_WEIGHTS = "Could not find variable"
LAST_VERSION = 2**63 - 1
TOO_MANY = re.compile(r"larger than maximum (?:input )?batch size (\d{1,9})")


@dataclass(frozen=True)
class Asked:
    """What a request was sent to: the server, and the model as its `ModelSpec` named it; and what it carries."""

    target: str
    model: str
    version: int | None = None
    label: str | None = None
    sent: str = IMAGES

    def at_version(self, version: int) -> Self:
        """Return the same for one version only.

        Raises:
            ModelNotServedError: Another one is pinned, or no server can have such a version.
        """
        if self.version not in (None, checked_version(version)):
            raise ModelNotServedError(f"Version {version} is needed, but the client is to ask for {self} only.")
        if not 0 <= version <= LAST_VERSION:
            raise ModelNotServedError(f"Versions are from 0 to {LAST_VERSION}; there is no version {version}.")
        return replace(self, version=version, label=None)

    def __str__(self) -> str:
        """Return the model's name with the version or label, if any was asked for."""
        if self.version is not None:
            return f"{self.model} version {self.version}"
        return self.model if self.label is None else f"{self.model} label {self.label!r}"


class BatchTooLargeError(ImageError):
    """One request carried more than the server takes; the images may fit in smaller ones.

    Attributes:
        limit: Images that a request may carry, 0 where the server counts bytes.
    """

    def __init__(self, text: str, limit: int) -> None:
        super().__init__(text)
        self.limit = limit


def from_rpc(error: grpc.RpcError, asked: Asked, timeout_s: float) -> AeSearchError:
    """Return the error to raise for a failed call.

    Args:
        error: What gRPC raised.
        asked: Server and model.
        timeout_s: Seconds that the request was allowed.
    """
    details = printable(" ".join(str(error.details() or "").split()))
    made = _classified(error.code(), details, asked, timeout_s)
    made.__cause__ = error
    return made


def closed(target: str) -> ServerUnavailableError:
    """Return the error of a call whose client was closed meanwhile."""
    return ServerUnavailableError(f"The client was closed before {target} answered.")


def _classified(code: grpc.StatusCode, details: str, asked: Asked, timeout_s: float) -> AeSearchError:
    """Tell apart what one code may stand for, by the texts of TensorFlow Serving 2.20 and of gRPC."""
    kind = ERRORS.get(code, ServerAnswerError)
    if code is Code.RESOURCE_EXHAUSTED and "larger than max" in details:
        return BatchTooLargeError(_told(f"{asked.target} takes no message of that size.", code, details), 0)
    if code is Code.INVALID_ARGUMENT and (found := TOO_MANY.search(details)):
        return BatchTooLargeError(_told(f"{asked.target} takes fewer at once.", code, details), int(found[1]))
    if code is Code.FAILED_PRECONDITION and JOINED in details:
        kind = ImageError
    if code is Code.UNAVAILABLE and TLS_FAILED.search(details):
        kind = AccessDeniedError
    if code is Code.INVALID_ARGUMENT and "servable version label" in details:
        kind = ModelNotServedError
    if kind is ImageError and (words := decoder_words(details)):
        return ImageError(f"{asked.target} refused an image: {words} ({code.name}).")
    return kind(_told(_advice(kind, asked, timeout_s, details), code, details))


def _told(advice: str, code: grpc.StatusCode, details: str) -> str:
    return f"{advice} ({code.name}: {details[:MAX_DETAILS]})"


def _advice(kind: type[AeSearchError], asked: Asked, timeout_s: float, details: str) -> str:
    target = asked.target
    if kind is AccessDeniedError and "hostname verification" in details.lower():
        return f"The certificate of {target} carries another name; if it is the right one, give --tls-server-name."
    if kind is AccessDeniedError and TLS_FAILED.search(details):
        return f"The TLS handshake with {target} failed; `ae-search doctor` says more."
    if kind is ServerUnavailableError and ("Threadpool" in details or "queue" in details):
        return f"{target} is overloaded, and was until the time was up; more threads, batching or servers would help."
    advice = ADVICE[kind].format(target=target, model=asked, timeout_s=timeout_s, sent=asked.sent)
    if kind in (ServerUnavailableError, ServerTimeoutError) and (variable := proxy_of(target)) is not None:
        return f"{advice} The calls go through the proxy in {variable}; name the host in no_proxy if they should not."
    if kind is ServerUnavailableError and "Connection refused" in details:
        return f"{advice} If it is starting, wait: TensorFlow Serving opens the port when every model has a version."
    if kind is ModelNotServedError and NO_WEIGHTS in details:
        return (
            f"{target} loaded {asked} without its weights: the version folder was incomplete when it was found. Put "
            "the whole version there under a new number, with one rename."
        )
    if kind is ModelNotServedError and "signature" in details.lower():
        what = "an encoder must be an export of ae-search" if asked.sent == IMAGES else "ask for its metadata"
        return f"{asked} on {target} has no such signature; {what}."
    if kind is ModelNotServedError and asked.version is not None:
        return f"{target} does not serve {asked}; serve that version too, or ask for one that is served."
    return advice
