"""Failures inside a model of the user's own, as one sentence."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ae_search.errors import AeSearchError
from ae_search.files import is_full_disk, trouble_in_words

MAX_CHARACTERS = 300


@contextmanager
def said_as(kind: type[AeSearchError], what: str) -> Iterator[None]:
    """Turn whatever Keras, TensorFlow or the model's own code raises into one error of ours.

    Args:
        kind: The class to raise.
        what: What could not be done, without a full stop.

    Raises:
        AeSearchError: The kind asked for; one that is ours already passes as it is.
    """
    try:
        yield
    except AeSearchError:
        raise
    except Exception as error:  # the model's own code may raise anything
        text = f"{trouble_in_words(error)}." if is_full_disk(error) else one_line(error)
        raise kind(f"{what}: {text}") from error


def one_line(error: Exception) -> str:
    """Return the beginning of an error's text in one line, without terminal colours and control characters."""
    text = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    # Keras wraps what went wrong in which call it was in, and in that call's arguments.
    text = re.split(r"(?:Exception|Error) encountered(?: when calling [^\n]*)?:?\s*\n\n", text)[-1]
    text = text.split("\n\nArguments received by")[0]
    text = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    if len(text) > MAX_CHARACTERS:
        text = f"{text[:MAX_CHARACTERS]} ..."
    return text or type(error).__name__
