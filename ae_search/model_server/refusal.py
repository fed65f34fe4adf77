"""A request that gets no answer: its gRPC status code and one short sentence."""

import re
from typing import Any

import grpc

MAX_TEXT = 500
# A client that reads this waits and tries again.
EXHAUSTED = "Server Threadpool Exhausted"
NO_MESSAGE = "The bytes of the request are no message of this method"
# An error may quote what was sent, which need not be short.
_MAX_READ = 20_000
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
_NOISE = re.compile(
    r"^\s*$|^Graph execution error|^Detected at node|^<stack traces unavailable>"
    r"|^\s*File \"|^\s*\[\[|root error\(s\) found"
)
_ASSERTION = re.compile(r"^assertion failed: \[([^\[\]]+)\]$")
_PREFIX = re.compile(r"\{\{[^}]*\}\}\s*|^\s*\(\d+\)\s+(?:[A-Z_]+:\s*)?|\s*\[(?:Op:|Condition ).*$")


class RequestRefused(Exception):
    """The request cannot be answered; the servicer turns this into a gRPC status.

    Attributes:
        code: The gRPC status code.
        text: One short sentence for the caller.
    """

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text[:MAX_TEXT])
        self.code = code
        self.text = text[:MAX_TEXT]


def refused_by_tensorflow(error: Any) -> RequestRefused:
    """Translate a `tf.errors.OpError`, whose codes are those of gRPC, keeping what it says and not its node traces.

    An error that quotes bytes of its input arrives as UnicodeDecodeError, without its code: what is quoted is what was
    wrong.
    """
    if isinstance(error, UnicodeDecodeError):
        text = error.object.decode("utf-8", "backslashreplace")
        return RequestRefused(grpc.StatusCode.INVALID_ARGUMENT, short_text(text))
    return RequestRefused(_CODES.get(error.error_code, grpc.StatusCode.INTERNAL), short_text(str(error.message)))


def short_text(message: str) -> str:
    """Return the first line of a TensorFlow error message that tells the cause."""
    for line in message[:_MAX_READ].splitlines():
        if not _NOISE.search(line) and (text := _PREFIX.sub("", line).strip()):
            return _ASSERTION.sub(r"\1", text)[:MAX_TEXT]
    return "the model could not be run"
