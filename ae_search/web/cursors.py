"""Cursors: where the next part of an answer begins, as an opaque text that the caller hands back."""

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Self

from ae_search.checked_json import MAX_COUNT, parsed_object, text_of, whole_of
from ae_search.web.problems import Problem

_MOST_LETTERS = 512


@dataclass(frozen=True)
class Cursor:
    """Where to go on.

    Attributes:
        offset: Rows that the caller has by now.
        asked: What was asked for, see `asked_digest`: a cursor goes on with the same question only.
        model: The beginning of the fingerprint of the model whose latents were compared.
    """

    offset: int
    asked: str
    model: str

    def __str__(self) -> str:
        """Return the text."""
        told = json.dumps([self.offset, self.asked, self.model], separators=(",", ":"))
        return base64.urlsafe_b64encode(told.encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str, asked: str, model: str) -> Self:
        """Read one.

        Raises:
            Problem: It is none, or belongs to another question or another model.
        """
        try:
            told = base64.b64decode(text[:_MOST_LETTERS] + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            raw = parsed_object(b'{"c":' + told + b"}", max_bytes=_MOST_LETTERS)["c"]
            named = dict(zip(("offset", "asked", "model"), raw, strict=True))
            cursor = cls(whole_of(named, "offset", 1, MAX_COUNT), text_of(named, "asked"), text_of(named, "model"))
        except (ValueError, TypeError, binascii.Error) as error:
            raise Problem("BadRequest", "A cursor is the 'next' of an answer. Received: something else.") from error
        if cursor.asked != asked:
            raise Problem("BadRequest", "This cursor belongs to another question; repeat that one, or leave it out.")
        if cursor.model != model:
            raise moved_on()
        return cursor


def moved_on() -> Problem:
    """Return the problem that the index holds the latents of another model by now."""
    told = "The index has moved on to another model; search again."
    return Problem("ModelMismatchError", told, status=HTTPStatus.CONFLICT)


def asked_digest(*parts: Any) -> str:
    """Return what a question is told by."""
    told = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(told.encode(errors="surrogatepass")).hexdigest()[:24]
