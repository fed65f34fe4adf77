"""Errors as a caller over HTTP sees them: `application/problem+json` (RFC 9457), a code for each class of `errors`."""

import json
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from ae_search import errors
from ae_search.errors import AeSearchError

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1

STATUSES: dict[type[AeSearchError], HTTPStatus] = {
    AeSearchError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.ConfigurationError: HTTPStatus.BAD_REQUEST,
    errors.ImageError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.ImageRefusedError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.ExportError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.IndexBusyError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.IndexDamagedError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.NotSupportedError: HTTPStatus.BAD_REQUEST,
    errors.PipelineError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.ModelMismatchError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.ServerError: HTTPStatus.BAD_GATEWAY,
    errors.ServerUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.ServerTimeoutError: HTTPStatus.GATEWAY_TIMEOUT,
    errors.ModelNotServedError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.AccessDeniedError: HTTPStatus.BAD_GATEWAY,
    errors.ServerAnswerError: HTTPStatus.BAD_GATEWAY,
}

# What this service itself says, by code: status and title.
OWN: dict[str, tuple[HTTPStatus, str]] = {
    "BadRequest": (HTTPStatus.BAD_REQUEST, "A parameter or the body is malformed."),
    "LoginNeeded": (HTTPStatus.UNAUTHORIZED, "This needs a key."),
    "Forbidden": (HTTPStatus.FORBIDDEN, "This is not allowed."),
    "NotFound": (HTTPStatus.NOT_FOUND, "There is no such thing."),
    "MethodNotAllowed": (HTTPStatus.METHOD_NOT_ALLOWED, "This address does not take that method."),
    "SlowRequest": (HTTPStatus.REQUEST_TIMEOUT, "The body did not arrive in time."),
    "Conflict": (HTTPStatus.CONFLICT, "It is there already."),
    "TooLarge": (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is too large."),
    "UnsupportedMediaType": (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "A body of this type is not taken here."),
    "WrongHost": (HTTPStatus.MISDIRECTED_REQUEST, "This service does not answer to that host name."),
    "Busy": (HTTPStatus.TOO_MANY_REQUESTS, "The service has as much work as it takes at a time."),
    "InternalError": (HTTPStatus.INTERNAL_SERVER_ERROR, "The service made a mistake; its log says more."),
    "ShuttingDown": (HTTPStatus.SERVICE_UNAVAILABLE, "The service is being stopped."),
    "DeadlineExceeded": (HTTPStatus.GATEWAY_TIMEOUT, "The answer took longer than a request may."),
}
_RETRIED = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class Problem(Exception):
    """What ends a request.

    Args:
        code: What a program decides by: a name of `OWN`, or that of a class of `errors`.
        detail: A sentence for a person; by default the title.
        status: HTTP status, where it is not that of the code.
        faults: What is wrong with each of several things, one object each.
    """

    def __init__(
        self,
        code: str,
        detail: str | None = None,
        *,
        status: HTTPStatus | None = None,
        faults: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        usual, self.title = OWN[code] if code in OWN else _of_class(getattr(errors, code))
        self.code, self.detail, self.status = code, detail or self.title, status or usual
        self.faults = faults
        super().__init__(self.detail)

    def body(self) -> bytes:
        """Return the problem as JSON."""
        told: dict[str, Any] = {
            "type": f"urn:ae-search:problem:{self.code}",
            "title": self.title,
            "status": int(self.status),
            "detail": self.detail,
            "code": self.code,
        }
        if self.faults:
            told["errors"] = list(self.faults)
        return json.dumps(told, ensure_ascii=False).encode(errors="replace")

    def headers(self) -> dict[str, str]:
        """Return the headers that belong to it."""
        headers = {"content-type": MEDIA_TYPE, "cache-control": "no-store"}
        if self.status in _RETRIED:
            headers["retry-after"] = str(RETRY_AFTER_S)
        if self.status is HTTPStatus.UNAUTHORIZED:
            headers["www-authenticate"] = "Bearer"
        return headers


def problem_of(error: AeSearchError, place: str) -> Problem:
    """Return the problem that an error is.

    Where it is the caller's to mend, the text of the error says what; where it is not, it may name folders and servers,
    which are for the log.

    Args:
        error: The error.
        place: Where the index is, which no caller needs to know.
    """
    kind = next(kind for kind in type(error).__mro__ if kind in STATUSES)
    status, _ = _of_class(kind)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("%s: %s", kind.__name__, error)
        return Problem(kind.__name__)
    return Problem(kind.__name__, str(error).replace(place, "the index"))


def _of_class(kind: type[AeSearchError]) -> tuple[HTTPStatus, str]:
    """Return status and title of a class: the first sentence of what it says of itself."""
    return STATUSES[kind], (kind.__doc__ or "").split("; ")[0].rstrip(".") + "."
