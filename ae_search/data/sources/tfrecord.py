"""TFRecord files of `tf.train.Example`: looked through once, then each image is read from its place."""

import logging
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

from ae_search.contract import MAX_TEXT_BYTES
from ae_search.data.sources.arrays import number_of
from ae_search.data.sources.cursor import Cursor
from ae_search.data.sources.example import Value, parse_example
from ae_search.data.sources.features import Features, as_text, resolved
from ae_search.data.sources.keys import Keys
from ae_search.data.sources.record_file import Record, RecordFile, is_whole, records
from ae_search.data.sources.source import SourceDefaults, Stamp, damaged
from ae_search.errors import ConfigurationError

log = logging.getLogger(__name__)

_CRC_BYTES = 4


@dataclass(frozen=True)
class Part:
    """Some records of a file that follow each other.

    Attributes:
        file: The file.
        skip: Records before the first one.
        take: How many; None for all that follow.
    """

    file: RecordFile
    skip: int = 0
    take: int | None = None


class TFRecordSource(SourceDefaults):
    """Images in TFRecord files.

    All files are read through once when it is opened; of each record, its place, its label and its key are kept. A
    gzipped file can be read from its beginning only.

    Args:
        name: Name of the source.
        address: SOURCE argument that opens it again, without the features.
        parts: The files.
        features: What to take of each Example.
        label_names: Names of labels that are numbers.

    Raises:
        ConfigurationError: A file is none, damaged or cut short, lacks a feature, or a key occurs twice.
    """

    def __init__(
        self,
        name: str,
        address: str,
        parts: Sequence[Part],
        *,
        features: Features | None = None,
        label_names: Sequence[str] | None = None,
    ) -> None:
        self.name, self._address, self._parts = name, address, list(parts)
        self._label_names = label_names
        self._features = _features_of(self._parts, features or Features())
        self._gzipped = [part.file.is_gzipped() for part in self._parts]
        self._starts = array("Q", [0])
        self._offsets, self._lengths = array("Q"), array("I")
        self._keys = None if self._features.key is None else Keys()
        self.labels: list[str | None] = []
        self._shared: dict[str, str] = {}
        for at in range(len(self._parts)):
            self._look_through(at)
        self._by_file = {part.file.name: at for at, part in enumerate(self._parts)}
        self._check()
        self._cursors = [Cursor(partial(self._members, at)) for at in range(len(self._parts))]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._offsets)

    @property
    def argument(self) -> str:
        """Files and features: "tfrecord:/data/*.tfrecord#image=image/encoded"."""
        return f"{self._address}#{as_text(self._features)}"

    @property
    def any_order(self) -> bool:
        """Whether no file is gzipped."""
        return not any(self._gzipped)

    @property
    def notes(self) -> Sequence[str]:
        """Which features are taken."""
        one = self._features
        label = f", labels from {one.label}" if one.label else ", without labels"
        return [f"{len(self)} records in {len(self._parts)} files: images from {one.image}{label}"]

    def key(self, position: int) -> str:
        """Return the stable key of an image: what its feature says, else its file and number."""
        if self._keys is not None:
            return self._keys[position]
        at, number = self._within(position)
        return f"{self._parts[at].file.name}/{number}"

    def position(self, key: str) -> int | None:
        """Return where the image of a key is, None where it is no key of this source."""
        if self._keys is not None:
            return self._keys.position(key)
        name, _, text = key.rpartition("/")
        at, number = self._by_file.get(name), number_of(text)
        if at is None or number is None:
            return None
        position = self._starts[at] + number - self._parts[at].skip
        return position if self._starts[at] <= position < self._starts[at + 1] else None

    def place(self, position: int) -> str:
        """Return file and number of an image."""
        at, number = self._within(position)
        return f"{self._parts[at].file.place}, record {number}"

    def read(self, position: int) -> bytes:
        """Return the bytes of an image file."""
        at, _ = self._within(position)
        if self._gzipped[at]:
            record = self._cursors[at].at(position - self._starts[at])
            data = None if record is None else record.data
        else:
            whole = self._parts[at].file.part(self._offsets[position], self._lengths[position] + _CRC_BYTES)
            data = whole[:-_CRC_BYTES] if is_whole(whole) else None
        if data is None:
            raise damaged(self.place(position), "a damaged record: its checksum is wrong")
        image = self._features.image
        assert image is not None
        try:
            value = parse_example(data, frozenset({image})).get(image)
        except ValueError as error:
            raise damaged(self.place(position), f"no tf.train.Example ({error})") from error
        if not isinstance(value, bytes):
            raise damaged(self.place(position), f"its feature {image} holds no bytes")
        return value

    def stamp(self, position: int) -> Stamp | None:
        """Return None: how long a record is says nothing of the image file in it."""
        return None

    def _within(self, position: int) -> tuple[int, int]:
        """Return which part an image is in, and its number in the file."""
        at = bisect_right(self._starts, position) - 1
        return at, position - self._starts[at] + self._parts[at].skip

    def _members(self, at: int, *, with_data: bool = True) -> Iterator[Record]:
        part = self._parts[at]
        end = None if part.take is None else part.skip + part.take
        return islice(records(part.file, gzipped=self._gzipped[at], with_data=with_data), part.skip, end)

    def _look_through(self, at: int) -> None:
        told = self._features
        wanted = frozenset(name for name in (told.label, told.key) if name is not None)
        for number, record in enumerate(self._members(at, with_data=bool(wanted)), self._parts[at].skip):
            self._offsets.append(record.offset)
            self._lengths.append(record.length)
            where = f"{self._parts[at].file.place}, record {number}"
            values = _values(record, wanted)
            text = None if told.label is None else label_of(values.get(told.label), where, self._label_names)
            self.labels.append(None if text is None else self._shared.setdefault(text, text))
            if self._keys is not None and told.key is not None:
                # A damaged record is left out later, by a key that says where it is.
                damaged_key = f"{self._parts[at].file.name}/{number}" if record.data is None else None
                self._keys.add(damaged_key or key_of(values.get(told.key), told.key, where))
        self._starts.append(len(self._offsets))

    def _check(self) -> None:
        if not len(self):
            raise ConfigurationError(f"{self.name} holds no record.")
        if self._keys is not None and (key := self._keys.repeated()) is not None:
            raise ConfigurationError(
                f"{self.name}: the key {key} occurs twice; name a feature by --key-feature whose values all differ."
            )


def _values(record: Record, wanted: frozenset[str]) -> dict[str, Value | None]:
    if record.data is None or not wanted:
        return {}
    try:
        return parse_example(record.data, wanted)
    except ValueError:
        return {}  # reading it tells


def label_of(value: Value | None, where: str, names: Sequence[str] | None = None) -> str | None:
    """Return the label that a feature holds, None where it holds none.

    Args:
        value: The feature's value.
        where: The record, for messages.
        names: Names of labels that are numbers.

    Raises:
        ConfigurationError: It is too long.
    """
    if isinstance(value, int) and names is not None:
        return names[value] if 0 <= value < len(names) else str(value)
    text = _text(value)
    if text is not None and len(text) > MAX_TEXT_BYTES // 4 and len(text.encode()) > MAX_TEXT_BYTES:
        raise ConfigurationError(f"{where}: a label may have {MAX_TEXT_BYTES} bytes. Received a longer one.")
    return text or None


def key_of(value: Value | None, feature: str, where: str) -> str:
    """Return the key that a feature holds.

    Raises:
        ConfigurationError: It holds none, or one that is too long.
    """
    text = _text(value)
    if not text or len(text.encode()) > MAX_TEXT_BYTES:
        raise ConfigurationError(f"{where}: its feature {feature} must be a key of 1 to {MAX_TEXT_BYTES} bytes.")
    return text


def _text(value: Value | None) -> str | None:
    if isinstance(value, bytes):
        return value.decode(errors="replace").replace("\0", "\ufffd")
    return None if value is None else str(value)


def _features_of(parts: Sequence[Part], features: Features) -> Features:
    """Return the features by the names that the first whole record has.

    Raises:
        ConfigurationError: It lacks one that was named, or has no image.
    """
    for part in parts:
        for record in records(part.file, gzipped=part.file.is_gzipped()):
            if record.data is not None:
                return resolved(record.data, features, part.file.place)
    raise ConfigurationError(f"{parts[0].file.place if parts else 'It'} holds no whole record.")
