"""Images of TFRecord files, each file read once from its beginning to its end."""

from collections.abc import Iterator
from typing import BinaryIO

from apache_beam.io.filesystems import FileSystems

from ae_search.beam.elements import Image
from ae_search.beam.places import is_local, stream
from ae_search.data.sources.example import parse_example
from ae_search.data.sources.features import Features, resolved
from ae_search.data.sources.record_file import Record, RecordFile, records
from ae_search.data.sources.tfrecord import key_of, label_of


class _BeamFiles:
    """What `RecordFile` asks of files that are not local."""

    def stream(self, url: str, /) -> BinaryIO:
        return stream(url)

    def part(self, url: str, start: int, count: int, /) -> bytes:
        with stream(url) as file:
            file.seek(start)
            return file.read(count)

    def size(self, url: str, /) -> int:
        return int(FileSystems.get_filesystem(url).size(url))


def record_file(place: str, name: str) -> RecordFile:
    """Return a TFRecord file wherever it lies; its records' keys begin with a name."""
    return RecordFile(place, name, None if is_local(place) else _BeamFiles())


def images_of(file: RecordFile, features: Features) -> Iterator[Image]:
    """Yield the images of a file in their order, by the keys that `TFRecordSource` gives them.

    Raises:
        ConfigurationError: It is no TFRecord file, is cut short, lacks a feature, or has a record that is too large.
    """
    told: Features | None = None
    for number, record in enumerate(records(file, gzipped=file.is_gzipped())):
        if told is None and record.data is not None:
            told = resolved(record.data, features, file.place)
        yield _image_of(record, told, f"{file.name}/{number}", f"{file.place}, record {number}")


def _image_of(record: Record, told: Features | None, key: str, place: str) -> Image:
    if record.data is None or told is None:
        return _bad(key, place, "a damaged record: its checksum is wrong")
    wanted = frozenset(name for name in (told.image, told.label, told.key) if name is not None)
    try:
        values = parse_example(record.data, wanted)
    except ValueError as error:
        return _bad(key, place, f"no tf.train.Example ({error})")
    if told.key is not None:
        key = key_of(values.get(told.key), told.key, place)
    label = None if told.label is None else label_of(values.get(told.label), place)
    data = values.get(told.image) if told.image is not None else None
    if not isinstance(data, bytes):
        return _bad(key, place, f"its feature {told.image} holds no bytes")
    return Image(key, place, data, label)


def _bad(key: str, place: str, reason: str) -> Image:
    return Image(key, place, None, reason=f"{place}: {reason}.")
