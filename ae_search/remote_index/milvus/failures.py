"""What Milvus and its client refuse, as errors of ours: one map, with the server's own words."""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from pymilvus.exceptions import MilvusException

from ae_search.errors import (
    AccessDeniedError,
    AeSearchError,
    ConfigurationError,
    IndexBusyError,
    ServerAnswerError,
    ServerTimeoutError,
    ServerUnavailableError,
)

_MOST_LETTERS = 300

# By code: https://github.com/milvus-io/milvus/blob/master/pkg/util/merr/errors.go
_BY_CODE: dict[int, tuple[type[AeSearchError], str]] = {
    1: (ServerUnavailableError, "the server is not ready; try later"),
    2: (ServerUnavailableError, "the server is not available; try later"),
    3: (ServerUnavailableError, "the server is out of memory; add query nodes, or remove what is not needed"),
    4: (ServerUnavailableError, "the server takes no more work now; try later"),
    5: (ServerAnswerError, "see the server's log"),
    8: (ServerUnavailableError, "the server limits the rate of calls; try later"),
    9: (ServerUnavailableError, "the server refuses work now, as where its disk or memory is full"),
    100: (ConfigurationError, "there is no index; build one with `ae-search index build`"),
    101: (ServerUnavailableError, "the index is not in the memory of the query nodes; load it there"),
    103: (ServerUnavailableError, "the index is still being loaded; try later"),
    503: (ServerUnavailableError, "the server is not ready; try later"),
    800: (ConfigurationError, "there is no such database; create it first"),
    1100: (ServerAnswerError, "the server refused a value"),
    1400: (AccessDeniedError, "check user and password (AE_SEARCH_MILVUS_TOKEN)"),
    1401: (AccessDeniedError, "the user lacks a privilege; an administrator must grant it"),
    1600: (ConfigurationError, "there is no index; build one with `ae-search index build`"),
    1602: (IndexBusyError, "another index, or another writer, has taken the name; try again"),
}
_BY_STATUS: dict[grpc.StatusCode, tuple[type[AeSearchError], str]] = {
    grpc.StatusCode.DEADLINE_EXCEEDED: (ServerTimeoutError, "the call took too long; raise timeout_s= in the URL"),
    grpc.StatusCode.UNAUTHENTICATED: _BY_CODE[1400],
    grpc.StatusCode.PERMISSION_DENIED: _BY_CODE[1401],
    grpc.StatusCode.RESOURCE_EXHAUSTED: _BY_CODE[8],
    grpc.StatusCode.UNAVAILABLE: (ServerUnavailableError, "the server cannot be reached now; try again"),
    grpc.StatusCode.UNIMPLEMENTED: (ConfigurationError, "the server is too old; Milvus 2.3 or newer is needed"),
}
# Where the code says too little.
_BY_TEXT: tuple[tuple[str, tuple[type[AeSearchError], str]], ...] = (
    ("auth check failure", _BY_CODE[1400]),
    ("unauthenticated", _BY_CODE[1400]),
    ("invalid token", _BY_CODE[1400]),
    ("permission deny", _BY_CODE[1401]),
    ("PrivilegeNotPermitted", _BY_CODE[1401]),
    ("database not found", _BY_CODE[800]),
    ("DEADLINE_EXCEEDED", _BY_STATUS[grpc.StatusCode.DEADLINE_EXCEEDED]),
    ("etry timeout", _BY_STATUS[grpc.StatusCode.DEADLINE_EXCEEDED]),
    ("timeout", _BY_STATUS[grpc.StatusCode.DEADLINE_EXCEEDED]),
    ("Fail connecting", _BY_STATUS[grpc.StatusCode.UNAVAILABLE]),
    ("can't find collection", _BY_CODE[100]),
    ("collection not found", _BY_CODE[100]),
    ("not loaded", _BY_CODE[101]),
    ("channel not available", _BY_CODE[503]),
    ("no available", _BY_CODE[503]),
    ("delegator", _BY_CODE[503]),
)
_GONE = (100, 1600)
_GOING_TEXTS = ("channel not available", "no available", "delegator", "not loaded", "released")
_GONE_TEXTS = ("collection not found", "can't find collection", "not exist")


def failure(error: MilvusException | grpc.RpcError, place: str, secret: str = "") -> AeSearchError:
    """Return the error to raise for one of the client.

    Args:
        error: What the client raised.
        place: Name of the index.
        secret: What must not be repeated.
    """
    text = _text(error)
    kind, advice = _kind(error, text)
    for part in {secret, secret.partition(":")[2]} - {""}:
        text = text.replace(part, "***")
    return kind(f"{place}: {' '.join(text.split())[:_MOST_LETTERS]}; {advice}.")


@contextmanager
def mapped(place: str, secret: str = "") -> Iterator[None]:
    """Raise what the client raises as an error of ours."""
    try:
        yield
    except (MilvusException, grpc.RpcError) as error:
        raise failure(error, place, secret) from error


def is_gone(error: BaseException | None) -> bool:
    """Tell whether an error of the client means that a collection is not there any more."""
    if not isinstance(error, MilvusException):
        return False
    return error.code in _GONE or any(part in error.message for part in _GONE_TEXTS)


def may_be_going(error: BaseException | None) -> bool:
    """Tell whether an error of the client may come from a collection that is just being dropped."""
    return is_gone(error) or (
        isinstance(error, MilvusException) and any(part in error.message for part in _GOING_TEXTS)
    )


def _text(error: MilvusException | grpc.RpcError) -> str:
    if isinstance(error, MilvusException):
        return str(error.message)
    return str(error.details() if isinstance(error, grpc.Call) else error)


def _kind(error: MilvusException | grpc.RpcError, text: str) -> tuple[type[AeSearchError], str]:
    if isinstance(error, grpc.Call) and (found := _BY_STATUS.get(error.code())):
        return found
    lowered = text.lower()
    for part, kind in _BY_TEXT:
        if part.lower() in lowered:
            return kind
    code = error.code if isinstance(error, MilvusException) else None
    if isinstance(code, grpc.StatusCode) and (found := _BY_STATUS.get(code)):
        return found
    if isinstance(code, int) and code in _BY_CODE:
        return _BY_CODE[code]
    if isinstance(error, MilvusException):
        return ServerAnswerError, "that was not expected of this server"
    return ServerUnavailableError, "the server cannot be reached now; try again"
