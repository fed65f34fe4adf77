"""What an index is, whichever engine answers and wherever it lies."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy.typing as npt

from ae_search.contract.building import IndexWriter, Origin, Resources
from ae_search.contract.card import Metric, ModelRef
from ae_search.contract.encoder import Latents
from ae_search.contract.figures import Check, DuplicateGroup, IndexInfo
from ae_search.contract.item import Items, Metadata, Neighbour
from ae_search.contract.where import Where

# The model of latents that were imported without a word about it; no model has this fingerprint.
UNKNOWN_MODEL = ModelRef("unknown", 1, "unknown")

_ALL_THERE_IS = Resources()

# Returns the latents of some keys in their order: float32 `[n, d]`, or `[n, r, d]` where an item has several.
EncodeKeys = Callable[[list[str]], npt.ArrayLike]
# Called with the number of items done since the last call.
OnItems = Callable[[int], object]


def no_progress(items: int) -> None:
    """Tell nobody."""


class Index(Protocol):
    """Items with a key, one or more latents, and maybe a label, metadata, a thumbnail and a digest of their content.

    A search sees every change whose call has returned, whichever process made it. A change is all of it or nothing.
    An item counts by that of its latents which is nearest to the query; a search may look at the first of each alone.
    All latents of an index come from one model.
    """

    @property
    def place(self) -> str:
        """Where the index is, for messages: a folder, or a URL without its password."""

    @property
    def model(self) -> ModelRef:
        """The model whose latents the index holds by now."""

    @property
    def latent_dim(self) -> int:
        """Floats in one latent."""

    @property
    def metric(self) -> Metric:
        """Distance that latents are compared with."""

    def __len__(self) -> int:
        """Return the number of items."""

    def __contains__(self, key: str) -> bool:
        """Tell whether the index has a key."""

    def search(
        self,
        latents: npt.ArrayLike,
        k: int = 10,
        *,
        where: Where | None = None,
        effort: int | None = None,
        exact: bool = False,
        fingerprint: str | None = None,
        first_latents: bool = False,
    ) -> list[list[Neighbour]]:
        """Find the items that are nearest to each latent `[n, d]`, or to one `[d]`.

        Args:
            latents: Float32 `[n, d]`, or one latent `[d]`.
            k: Neighbours for each latent, at least 1; an index with fewer items returns all of them.
            where: Conditions that an item must meet; see `parse_where`. k items come back whenever k meet them.
            effort: Work to do for a query, in the engine's own unit; None for what was tuned.
            exact: Whether to compare with every item.
            fingerprint: Fingerprint of the model that the latents come from. None: the one that the index had when it
                was opened.
            first_latents: Whether an item counts by its first latent alone.

        Returns:
            One list for each latent, nearest first, equal distances by id.

        Raises:
            ValueError: An argument is out of range, the latents do not fit or are not finite, or `where` is malformed.
            ModelMismatchError: The index holds the latents of another model by now.
        """

    def search_by_key(
        self,
        key: str,
        k: int = 10,
        *,
        where: Where | None = None,
        effort: int | None = None,
        exact: bool = False,
        first_latents: bool = False,
    ) -> list[Neighbour]:
        """Find the items that are nearest to an indexed one, by its first latent; itself is left out.

        Raises:
            ConfigurationError: The index has no such key.
            ValueError: As in `search`.
        """

    def known(self, keys: Sequence[str]) -> set[str]:
        """Return those of some keys that the index has."""

    def latents(self, keys: Sequence[str]) -> Latents:
        """Return the first latent of each key, float32 `[n, d]`; where there is one only, that is all.

        Raises:
            ConfigurationError: The index lacks a key.
        """

    def all_latents(self, keys: Sequence[str]) -> list[Latents]:
        """Return all latents of each key, float32 `[r, d]`.

        Raises:
            ConfigurationError: The index lacks a key.
        """

    def details(self, keys: Sequence[str]) -> list[tuple[str | None, dict[str, Any]]]:
        """Return label and metadata of some keys.

        Raises:
            ConfigurationError: The index lacks a key.
        """

    def digests(self, keys: Sequence[str]) -> list[str | None]:
        """Return the digests of the content of some keys, None where an item has none.

        Raises:
            ConfigurationError: The index lacks a key.
        """

    def thumbnail(self, item: Neighbour | str) -> bytes | None:
        """Return the JPEG of a neighbour or key; None if it is unknown or has none."""

    def items(self) -> Iterator[tuple[str, str | None, dict[str, Any]]]:
        """Yield key, label and metadata of each item, by id."""

    def keys(self, *, where: Where | None = None) -> list[str]:
        """Return the keys of all items, or of those that meet some conditions, by id.

        Raises:
            ValueError: `where` is malformed.
        """

    def labels(self) -> list[str | None]:
        """Return the labels of all items, by id."""

    def blocks(self, *, thumbnails: bool = True) -> Iterator[tuple[Latents, Items]]:
        """Yield all items of one moment, by id, in blocks: their latents `[n, r, d]`, and what else they have.

        Args:
            thumbnails: Whether to read thumbnails; without, they are None.
        """

    def add(
        self,
        latents: npt.ArrayLike,
        keys: Sequence[str],
        labels: Sequence[str | None] | None = None,
        *,
        metadata: Sequence[Metadata | None] | None = None,
        thumbnails: Sequence[bytes | None] | None = None,
        digests: Sequence[str | None] | None = None,
        source: str | None = None,
        wait_s: float = 0.0,
    ) -> None:
        """Add items, all of them or none; every reader sees them when this returns.

        Args:
            latents: Float32 `[n, d]`, or `[n, r, d]` for r latents of each item, of the index's model.
            keys: n keys that the index does not have, each of at most 8 KiB as UTF-8.
            labels: n labels of at most 8 KiB, None where an item has none.
            metadata: n JSON objects of at most 1 MiB, None where an item has none.
            thumbnails: n JPEG files, None where an item has none.
            digests: n digests of the items' content, of at most 128 characters, None where an item has none.
            source: Name of the source that they come from, of at most 8 KiB.
            wait_s: How long to wait for another writer, in s.

        Raises:
            ConfigurationError: A key is there already, or there is no room.
            IndexBusyError: Another process writes the index.
            ModelMismatchError: The index holds the latents of another model by now.
            ValueError: The latents do not fit or are not finite, or the lengths differ.
        """

    def update(
        self,
        keys: Sequence[str],
        *,
        latents: npt.ArrayLike | None = None,
        labels: Sequence[str | None] | None = None,
        metadata: Sequence[Metadata | None] | None = None,
        thumbnails: Sequence[bytes | None] | None = None,
        digests: Sequence[str | None] | None = None,
        wait_s: float = 0.0,
    ) -> None:
        """Change items, all of them or none; what is not given stays as it is. Arguments as in `add`.

        Raises:
            ConfigurationError: The index lacks a key, a key occurs twice, or there is no room.
            IndexBusyError: Another process writes the index.
            ModelMismatchError: The index holds the latents of another model by now.
            ValueError: The latents do not fit or are not finite, or the lengths differ.
        """

    def remove(self, keys: Sequence[str], *, wait_s: float = 0.0) -> None:
        """Take items out, all of them or none; no search returns them when this has returned.

        Raises:
            ConfigurationError: The index lacks a key, or a key occurs twice.
            IndexBusyError: Another process writes the index.
        """

    def calibration(self) -> dict[str, Any]:
        """Return what was measured about the latents and stored by `calibrate`, by name."""

    def calibrate(self, name: str, values: Metadata, *, wait_s: float = 0.0) -> None:
        """Store something that was measured about the latents; a rebuild with another model drops it.

        Args:
            name: What it is.
            values: A JSON object of at most 1 MiB.
            wait_s: How long to wait for another writer, in s.

        Raises:
            ValueError: It is no such object, or the name has others than 1 to 64 letters, digits, dots, dashes and _.
            IndexBusyError: Another process writes the index.
            ModelMismatchError: The index holds the latents of another model by now.
        """

    def rename_source(self, old: str, new: str, *, wait_s: float = 0.0) -> None:
        """Tell that the images of a source have moved: keys and latents stay, and the source has another name.

        Args:
            old: Its name until now, one of `info().sources`.
            new: Its name from now on; a source that has it already becomes one with it.
            wait_s: How long to wait for another writer, in s.

        Raises:
            ConfigurationError: The index has no such source, or there is no room.
            IndexBusyError: Another process writes the index.
        """

    def rebuilding(
        self,
        model: Origin,
        resources: Resources = _ALL_THERE_IS,
        *,
        engine: str | None = None,
        wait_s: float = 0.0,
    ) -> AbstractContextManager[IndexWriter]:
        """Yield a writer for all items anew, with latents of another model; nobody else can write meanwhile.

        Searches go on with the old ones, which `blocks` yields, until the block ends without an error; then one step
        puts the new ones in their place. Calibration is dropped.

        Args:
            model: What the new latents come from, such as a `ModelCard`.
            resources: What the build may use of the machine.
            engine: As in `compact`, where the new latents shall have another one.
            wait_s: How long to wait for another writer, in s.

        Raises:
            IndexBusyError: Another process writes the index.
            ConfigurationError: There is no room, or no such engine.
        """

    def compact(
        self,
        resources: Resources = _ALL_THERE_IS,
        *,
        engine: str | None = None,
        fields: Sequence[str] | None = None,
        wait_s: float = 0.0,
        on_progress: OnItems = no_progress,
    ) -> None:
        """Fold all changes into a new base; searches go on meanwhile, in every process.

        Args:
            resources: What the build may use of the machine.
            engine: Name of the engine to move to, with its options at their defaults; None for the one that is there.
            fields: Fields of the metadata that filters shall look up from then on; None for those that they do now.
            wait_s: How long to wait for another writer, in s.
            on_progress: Called with the number of items done since the last call.

        Raises:
            IndexBusyError: Another process writes the index.
            ConfigurationError: There is no room, no such engine, or no filter can have such a field.
        """

    def tune(self, recall: float | None = None, *, wait_s: float = 0.0) -> IndexInfo:
        """Measure recall again and choose the effort anew.

        Args:
            recall: Share of the 10 true neighbours that a query shall find, in (0, 1]; None for the one asked last.
            wait_s: How long to wait for another writer, in s.

        Raises:
            ValueError: `recall` is out of range.
            IndexBusyError: Another process writes the index.
        """

    def info(self) -> IndexInfo:
        """Return the figures of this moment, and whether it is time to compact."""

    def warm(self) -> int:
        """Read what searches need into memory, so that the first of them are as fast as the others.

        Returns:
            How many bytes were read; 0 where there is nothing to do.
        """

    def verify(self) -> list[Check]:
        """Check all that opening takes on trust."""

    def duplicates(
        self, similarity: float | None = None, *, on_progress: OnItems = no_progress
    ) -> list[DuplicateGroup]:
        """Find groups of items that are almost the same, the largest first; each is searched for by its first latent.

        Args:
            similarity: Least cosine similarity of two items that count as almost the same, in (0, 1]. None: in an index
                that is calibrated, what `calibration.alike_of` says; else 0.99.
            on_progress: Called with the number of items done since the last call.

        Raises:
            ValueError: `similarity` is out of range.
        """

    def export(self, path: str | Path, *, on_progress: OnItems = no_progress) -> int:
        """Write keys, labels, metadata and latents of all items to `*.parquet` or `*.jsonl`; return how many.

        Raises:
            ConfigurationError: The name has another ending, pyarrow is missing, or the file cannot be written.
        """

    def close(self) -> None:
        """Let go of files or connections; a second time does nothing, and any use afterwards is a ValueError."""

    def __enter__(self) -> Self:
        """Return the index."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the index."""
