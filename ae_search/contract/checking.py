"""What an item has besides its latent, checked before anything is written."""

import json
import re
from collections.abc import Mapping, Sequence

from ae_search.contract.item import MAX_METADATA_BYTES, MAX_TEXT_BYTES, Items, Metadata
from ae_search.errors import ConfigurationError

# SQLite reads 1,000 levels, and Python's own parser fewer where the stack is deep already.
MAX_METADATA_DEPTH = 100
_DIGEST = re.compile(r"[!-~]{1,128}")
# As JSON writes it. SQLite ends a text there.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def checked_items(
    keys: Sequence[str],
    labels: Sequence[str | None] | None = None,
    metadata: Sequence[Metadata | None] | None = None,
    thumbnails: Sequence[bytes | None] | None = None,
    digests: Sequence[str | None] | None = None,
) -> Items:
    """Check a block of items as a caller gives it; what is left out is None for every item.

    Raises:
        ValueError: The lengths differ, or metadata are no JSON object.
        TypeError: A key or a label is no string, or a thumbnail no bytes.
        ConfigurationError: A key occurs twice, or a text cannot be stored: no Unicode, NUL in it, more than 8 KiB.
    """
    none: list[None] = [None] * len(keys)
    labels = none if labels is None else labels
    metadata = none if metadata is None else metadata
    thumbnails = none if thumbnails is None else thumbnails
    digests = none if digests is None else digests
    if not len(keys) == len(labels) == len(metadata) == len(thumbnails) == len(digests):
        raise ValueError(
            "Expected as many keys, labels, metadata, thumbnails and digests. Received: "
            f"{len(keys)}, {len(labels)}, {len(metadata)}, {len(thumbnails)}, {len(digests)}."
        )
    for digest in digests:
        if digest is not None and not is_digest(digest):
            raise ValueError(f"A digest is 1 to 128 printable ASCII characters. Received: {digest!r:.60}.")
    for text in (*keys, *labels):
        if text is not None:
            check_text(text, "Keys and labels")
    if None in keys:
        raise TypeError("Every item needs a key. Received: None.")
    if len(set(keys)) < len(keys):
        seen: set[str] = set()
        twice = next(key for key in keys if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ConfigurationError(f"Keys must be unique. Received twice: {twice!r}.")
    if not all(picture is None or isinstance(picture, bytes) for picture in thumbnails):
        raise TypeError("Thumbnails must be bytes, a JPEG file each, or None.")
    texts = [metadata_json(key, value) for key, value in zip(keys, metadata, strict=True)]
    return Items(list(keys), list(labels), texts, list(thumbnails), list(digests))


def is_digest(text: object) -> bool:
    """Tell whether something may be the digest of an item's content."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def metadata_json(key: str, metadata: Metadata | None) -> str | None:
    """Return metadata as one line of JSON.

    Raises:
        ValueError: They are no JSON object of at most 1 MiB; the text names the key.
    """
    if metadata is None:
        return None
    if not isinstance(metadata, Mapping) or not all(isinstance(name, str) for name in metadata):
        raise ValueError(f"The metadata of {key!r} must be an object with texts as names. Received: {metadata!r:.200}.")
    if _is_deeper(metadata, MAX_METADATA_DEPTH):
        raise ValueError(
            f"The metadata of {key!r} cannot be written as JSON: more than {MAX_METADATA_DEPTH} levels deep."
        )
    try:
        text = json.dumps(dict(metadata), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"The metadata of {key!r} cannot be written as JSON: {error}.") from error
    if _NUL.search(text):
        raise ValueError(f"The metadata of {key!r} must not hold the character NUL.")
    if size > MAX_METADATA_BYTES:
        raise ValueError(f"The metadata of {key!r} may have {MAX_METADATA_BYTES} bytes as JSON. Received: {size}.")
    return text


def _is_deeper(value: object, levels: int) -> bool:
    if not isinstance(value, Mapping | list | tuple):
        return False
    inner = value.values() if isinstance(value, Mapping) else value
    return not levels or any(_is_deeper(one, levels - 1) for one in inner)


def check_text(text: str, what: str) -> None:
    """Check a text that an index is to hold.

    Args:
        text: The text.
        what: What it is, for messages.

    Raises:
        TypeError: It is no string.
        ConfigurationError: It is no Unicode, has NUL in it, or more than 8 KiB.
    """
    if not isinstance(text, str):
        raise TypeError(f"{what} must be strings. Received: {text!r} of type {type(text).__name__}.")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:  # a file name that is not UTF-8 comes with lone surrogates
        raise ConfigurationError(f"{what} must be Unicode text; rename {text!r}.") from error
    if "\0" in text:
        raise ConfigurationError(f"{what} must not hold the character NUL; rename {text!r}.")
    if size > MAX_TEXT_BYTES:
        raise ConfigurationError(
            f"{what} may have {MAX_TEXT_BYTES} bytes as UTF-8; shorten {text[:60]!r}... Received: {size}."
        )
