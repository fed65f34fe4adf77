"""`LoadIndex`: latents into an index on PostgreSQL or Milvus, written by the workers."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import apache_beam as beam
import numpy as np

from ae_search.beam.elements import EncodedImage
from ae_search.contract import Index, ModelCard
from ae_search.errors import ConfigurationError, ModelMismatchError
from ae_search.indexing.encoding import EncodedBlock
from ae_search.indexing.writing import add_unknown
from ae_search.open_index import is_folder, is_milvus, open_index, place_name
from ae_search.regions import has_regions

_LEAST_ITEMS, _MOST_ITEMS = 64, 2048
# Workers take turns; each of them adds a block within a second or two.
_WAIT_S = 600.0


class LoadIndex(beam.PTransform):
    """Add latents to an index: `encoded | LoadIndex("postgresql://db/photos?index=cats", encode.model)`.

    The index is there already, on PostgreSQL or Milvus: one in a folder is written by one process, and so is a new one,
    by `ae-search index import` from the shards. Keys that it has are passed over, so that a bundle which is done again
    doubles nothing. Each block is seen by searches at once. The output is how many items each block has added.

    Args:
        place: The index, without a password. Workers find that in PGPASSFILE or a service file, as libpq does; for
            Milvus, in AE_SEARCH_MILVUS_TOKEN.
        model: Card of the model.
        source: Name of the source that the items come from, for `ae-search index info`.

    Raises:
        ConfigurationError: There is no index, it is in a folder or has regions, or the place has a password in it.
        ModelMismatchError: The index holds latents of another model.
        ServerError: The database does not answer.
    """

    def __init__(self, place: str, model: ModelCard, *, source: str = "beam") -> None:
        super().__init__()
        if is_folder(place):
            raise ConfigurationError(
                f"Workers write to an index on PostgreSQL or Milvus; for {place}, write shards, and make the index of "
                "them by `ae-search index import`."
            )
        if _has_secrets(place):
            raise ConfigurationError(
                f"The password of {place_name(place)} would be written into the job; leave it out, and name it to the "
                f"workers by {'AE_SEARCH_MILVUS_TOKEN' if is_milvus(place) else 'PGPASSFILE'}."
            )
        self._adding = _AddToIndex(place, model, source)
        with self._adding.opened():
            pass  # rather told here than by every worker

    def expand(self, encoded: Any) -> Any:
        """Return how many items each block has added."""
        return (
            encoded
            | "Good" >> beam.Filter(_is_good).with_output_types(EncodedImage)
            | "Block" >> beam.BatchElements(min_batch_size=_LEAST_ITEMS, max_batch_size=_MOST_ITEMS)
            | "Add" >> beam.ParDo(self._adding).with_output_types(int)
        )


def _is_good(image: EncodedImage) -> bool:
    return image.latent is not None


def _has_secrets(place: str) -> bool:
    given, bare = urlsplit(place), urlsplit(place_name(place))
    return given.password is not None or given.query.count("=") != bare.query.count("=")


class _AddToIndex(beam.DoFn):
    """From a block of latents to the number of those that were added."""

    def __init__(self, place: str, model: ModelCard, source: str) -> None:
        self._place, self._model, self._source = place, model, source
        self._index: Index | None = None

    def opened(self) -> Index:
        """Open the index, if it holds latents of the model."""
        # What another worker has added must be seen, or a bundle that is done again would fail.
        place = self._place
        if is_milvus(place) and "consistency=" not in place:
            place += f"{'&' if '?' in place else '?'}consistency=strong"
        index = open_index(place)
        held = index.model
        if held.fingerprint != self._model.fingerprint:
            index.close()
            raise ModelMismatchError(
                f"{index.place} holds latents of {held.name} version {held.version}, not of "
                f"{self._model.name} version {self._model.version}; encode with that version."
            )
        if has_regions(index):
            index.close()
            raise ConfigurationError(
                f"{index.place} holds latents of parts of its images as well (--regions), and this job makes none; "
                "add the images with `ae-search index add`, or load them into an index without regions."
            )
        return index

    def setup(self) -> None:
        self._index = self.opened()

    def process(self, block: list[EncodedImage]) -> Iterator[int]:
        assert self._index is not None
        images = list({image.key: image for image in block}.values())
        encoded = EncodedBlock(
            np.stack([image.latent for image in images]),  # type: ignore[misc]
            [image.key for image in images],
            [image.label for image in images],
            [None] * len(images),
            [None] * len(images),
            [image.metadata for image in images],
        )
        yield add_unknown(self._index, encoded, encoded.labels, encoded.metadata, source=self._source, wait_s=_WAIT_S)

    def teardown(self) -> None:
        if self._index is not None:
            self._index.close()
