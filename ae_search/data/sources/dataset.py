"""A `tf.data.Dataset` of a user's as a source, in Python."""

import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ae_search.data.sources.cursor import Cursor
from ae_search.data.sources.keys import Keys
from ae_search.data.sources.source import Pixels, SourceDefaults
from ae_search.errors import ConfigurationError

Selector = str | int | None
_INFINITE = -1


class DatasetSource(SourceDefaults):
    """The elements of a `tf.data.Dataset`, in its order.

    The dataset is gone through once for labels and keys, then once more for each pass over the images. It must give the
    same elements in the same order each time: shuffle and repeat are the training's own business.

    Args:
        dataset: Elements, not batches: an image, `(image, label)`, or a mapping.
        name: Name of the source, which keys begin with where no key is selected.
        image: Where the image is in an element: uint8 `[h, w, c]`, or a string scalar that holds an image file. None:
            the element itself, its first member, or "image".
        label: Where the label is, a string or an integer; None: the second member, or "label", where there is one.
        key: Where a key is that no two images share; None: keys are made of name and number.
        label_names: Names of labels that are numbers.

    Raises:
        ConfigurationError: An element has another form, the dataset has no end, or a key occurs twice.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        name: str = "dataset",
        image: Selector = None,
        label: Selector = None,
        key: Selector = None,
        label_names: Sequence[str] | None = None,
    ) -> None:
        if int(dataset.cardinality()) == _INFINITE:
            raise ConfigurationError("The dataset has no end; leave its repeat() out.")
        self.name = name
        self._dataset, self._image, self._key_at = dataset, image, key
        self.labels: list[str | None] = []
        self._keys, self._checksums = Keys(), array("I")
        for position, element in enumerate(dataset.as_numpy_iterator()):
            self._checksums.append(zlib.crc32(_content(self._picture(element))))
            self.labels.append(_named(_selected(element, label, ("label", 1)), label_names))
            own = None if key is None else _selected(element, key, ())
            self._keys.add(f"{name}/{position}" if own is None else str(_text(own)))
        if not len(self):
            raise ConfigurationError("The dataset holds no element.")
        if (twice := self._keys.repeated()) is not None:
            raise ConfigurationError(f"The key {twice} occurs twice in the dataset.")
        self._cursor = Cursor(self._elements)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._checksums)

    @property
    def argument(self) -> str:
        """What no SOURCE argument can be: it exists in Python only."""
        return f"dataset:{self.name}"

    @property
    def any_order(self) -> bool:
        """False: a dataset has an order."""
        return False

    def key(self, position: int) -> str:
        """Return the stable key of an image."""
        return self._keys[position]

    def position(self, key: str) -> int | None:
        """Return where the image of a key is, None where it is no key of this source."""
        return self._keys.position(key)

    def place(self, position: int) -> str:
        """Return name and number of an element."""
        return f"{self.name}, element {position}"

    def read(self, position: int) -> bytes | Pixels:
        """Return the bytes of an image file, or pixels.

        Raises:
            ConfigurationError: The dataset gives other elements than before, or in another order.
        """
        image = self._cursor.at(position)
        if image is None or zlib.crc32(_content(image)) != self._checksums[position]:
            raise ConfigurationError(
                f"{self.place(position)} is not what it was: a source must give the same elements in the same "
                "order each time; leave shuffle() and random alterations out."
            )
        return image

    def _elements(self) -> Iterator[bytes | Pixels]:
        return (self._picture(element) for element in self._dataset.as_numpy_iterator())

    def _picture(self, element: Any) -> bytes | Pixels:
        image = _selected(element, self._image, ("image", 0))
        if isinstance(image, bytes):
            return image
        if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] in (1, 3):
            return image
        shape = f"{image.dtype} {list(image.shape)}" if hasattr(image, "dtype") else type(image).__name__
        told = " Leave batch() out, or unbatch()." if getattr(image, "ndim", 0) == 4 else ""
        raise ConfigurationError(
            f"An image must be uint8 [h, w, 1 or 3], or the bytes of an image file. Received: {shape}.{told}"
        )


def _selected(element: Any, chosen: Selector, usual: tuple[Any, ...]) -> Any:
    """Return a member of an element; None where it was not named and there is none."""
    if not isinstance(element, Mapping | tuple):
        return element if chosen is None and 0 in usual else None
    names: Any = range(len(element)) if isinstance(element, tuple) else element
    at = chosen if chosen is not None else next((one for one in usual if one in names), None)
    if at is None or at not in names:
        if chosen is None and 0 not in usual:
            return None
        raise ConfigurationError(f"An element of the dataset has no {at!r}; it has {', '.join(map(repr, names))}.")
    return element[at]  # type: ignore[index]


def _named(value: Any, names: Sequence[str] | None) -> str | None:
    text = _text(value)
    if names is None or text is None or not text.isdecimal():
        return text
    return names[int(text)] if int(text) < len(names) else text


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bytes):
        return value.decode(errors="replace") or None
    if isinstance(value, str | int | np.integer) or (isinstance(value, np.ndarray) and not value.ndim):
        return str(value)
    raise ConfigurationError(f"A label or a key must be a text or a whole number. Received: {type(value).__name__}.")


def _content(image: bytes | Pixels) -> bytes:
    return image if isinstance(image, bytes) else repr(image.shape).encode() + image.tobytes()
