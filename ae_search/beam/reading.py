"""`ReadImages`: the images of a source, each with its key, read by the workers."""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics

from ae_search.beam.elements import Image
from ae_search.beam.listing import Found, list_files, whole
from ae_search.beam.places import is_local, matching, read_image
from ae_search.beam.record_images import images_of, record_file
from ae_search.data import Source, SourceOptions, open_source
from ae_search.data.sources.features import Features, with_features
from ae_search.data.sources.image_kinds import PassedOver
from ae_search.data.sources.opening import RECORDS, fixed_part, has_wild_cards, is_folder, local_path
from ae_search.errors import ConfigurationError, ImageError
from ae_search.image_file.kinds import KIND_BYTES

NAMESPACE = "ae_search"
_FILES_AT_A_TIME, _POSITIONS_AT_A_TIME = 32, 512
_DEFAULT = SourceOptions()


class ReadImages(beam.PTransform):
    """Read the images of a source: `p | ReadImages("gs://photos/2026/**")` is a PCollection of `Image`.

    Keys and labels are those of `ae-search embed`. Files are listed by one worker and read by all; an image that cannot
    be read has a reason in place of its bytes.

    Args:
        source: A folder; a pattern such as "gs://photos/**/*.jpg", or tfrecord:PATTERN, wherever one of Beam's file
            systems reaches; or any other SOURCE that `open_source` takes, which each worker opens by itself.
        only: Patterns of file names, for a part of a folder.
        options: How the source is opened.

    Raises:
        ConfigurationError: There is no such source, or it is given an option that does not go with it.
    """

    def __init__(self, source: str, *, only: Sequence[str] = (), options: SourceOptions = _DEFAULT) -> None:
        super().__init__()
        self._options, self._only, self._features = options, tuple(only), options.features
        self._opened: Source | None = None
        self._are_records = source.startswith(RECORDS)
        if self._are_records:
            if only:
                raise ConfigurationError(f"--only chooses files of a folder. Received: {' '.join(only)}, for {source}.")
            pattern, self._features = with_features(source.removeprefix(RECORDS), options.features)
            self.argument = RECORDS + whole(local_path(pattern))
        elif is_listed_here(source) and options.features == Features():
            self.argument = whole(local_path(source))
        else:
            self._opened = open_source(source, only=only, options=options)
            self.argument = self._opened.argument

    def expand(self, pipeline: Any) -> Any:
        """Return the images."""
        if self._opened is not None:
            count = len(self._opened)
            step = _POSITIONS_AT_A_TIME if self._opened.any_order else count
            ranges = [(at, min(at + step, count)) for at in range(0, count, step)]
            return _each(pipeline | beam.Create(ranges), _ReadPositions(self.argument, self._options))
        begun = pipeline | beam.Create([self.argument])
        if self._are_records:
            return _each(begun | "List" >> beam.FlatMap(_record_files), _ReadRecords(self._features))
        return _each(begun | "List" >> beam.FlatMap(_listed, self._only), _ReadFiles())


def is_listed_here(source: str) -> bool:
    """Tell whether a source is a folder or a pattern whose files are found by Beam's file systems."""
    place = local_path(source)
    return is_folder(source) and (not is_local(place) or has_wild_cards(place) or Path(place).is_dir())


def _each(listed: Any, read: beam.DoFn) -> Any:
    """Let all workers read what one of them has listed."""
    return listed | beam.Reshuffle() | "Read" >> beam.ParDo(read).with_output_types(Image)


def _record_files(source: str) -> Iterator[tuple[str, str]]:
    pattern = source.removeprefix(RECORDS)
    places = matching(pattern)
    if not places:
        raise ConfigurationError(f"No file is named like {pattern}; TFRecord files are named by a pattern, such as "
                                 f"{RECORDS}'data/train-*.tfrecord'.")  # fmt: skip
    for place in places:
        yield place, place.removeprefix(fixed_part(pattern))


def _listed(source: str, only: Sequence[str]) -> Iterator[list[Found]]:
    """Yield files some at a time: what goes from worker to worker one by one costs more than to read it."""
    files = list_files(source, only)
    while some := list(islice(files, _FILES_AT_A_TIME)):
        yield some


class _ReadFiles(beam.DoFn):
    """From files that were found to the images among them."""

    def __init__(self) -> None:
        self._passed_over = Metrics.counter(NAMESPACE, "files_passed_over")

    def process(self, files: list[Found]) -> Iterator[Image]:
        for found in files:
            try:
                if not found.is_image and not _is_image(found):
                    self._passed_over.inc()
                    continue
                image = Image(found.key, found.place, read_image(found.place), found.label)
            except ImageError as error:
                image = Image(found.key, found.place, None, found.label, reason=str(error))
            yield image


def _is_image(found: Found) -> bool:
    return PassedOver().takes(found.key, lambda: read_image(found.place, count=KIND_BYTES))


class _ReadRecords(beam.DoFn):
    """From a TFRecord file to its images."""

    def __init__(self, features: Features) -> None:
        self._features = features

    def process(self, file: tuple[str, str]) -> Iterator[Image]:
        yield from images_of(record_file(*file), self._features)


class _ReadPositions(beam.DoFn):
    """From positions of a source to their images; each process opens the source once."""

    def __init__(self, argument: str, options: SourceOptions) -> None:
        self._argument, self._options = argument, options

    def process(self, positions: tuple[int, int]) -> Iterator[Image]:
        source = _opened(self._argument, self._options)
        for at in range(*positions):
            key, place, label = source.key(at), source.place(at), source.labels[at]
            try:
                yield Image(key, place, source.read(at), label, source.metadata(at))
            except ImageError as error:
                yield Image(key, place, None, label, reason=str(error))


@cache
def _opened(argument: str, options: SourceOptions) -> Source:
    return open_source(argument, options=options)
