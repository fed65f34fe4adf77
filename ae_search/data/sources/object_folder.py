"""Image files below a folder of an object store."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Self

from ae_search.data.sources.folder import first_levels, matching, position_among
from ae_search.data.sources.image_kinds import PassedOver
from ae_search.data.sources.object_store import ObjectStore, last_part, open_store
from ae_search.data.sources.read_ahead import ReadAhead
from ae_search.data.sources.source import SourceDefaults, Stamp
from ae_search.errors import ConfigurationError
from ae_search.image_file.kinds import KIND_BYTES

_HEADS_AT_A_TIME = 256


@dataclass(frozen=True)
class ObjectFolderSource(SourceDefaults):
    """Image files below a folder of an object store, known by their content; see `FolderSource`.

    Attributes:
        name: The folder's own name.
        url: The folder.
        files: Paths relative to it, sorted.
        labels: The first folder level of each file, None for files that lie directly in it.
        sizes: Bytes of each file.
        store: Where it lies.
        passed_over: What was passed over.
    """

    name: str
    url: str
    files: Sequence[str]
    labels: Sequence[str | None]
    sizes: Sequence[int]
    store: ObjectStore
    passed_over: PassedOver = field(default_factory=PassedOver)

    @classmethod
    def below(cls, url: str) -> Self:
        """Return all image files below a folder, names that begin with a dot left out.

        Raises:
            ConfigurationError: There is none, or the store does not answer.
        """
        url, store = url.rstrip("/"), open_store(url)
        sizes = {path: size for path, size in store.below(url).items() if not _is_hidden(path)}
        passed_over = PassedOver()
        names, files = iter(sorted(sizes)), []
        while some := list(islice(names, _HEADS_AT_A_TIME)):
            heads = store.heads([f"{url}/{name}" for name in some], KIND_BYTES)
            files += [name for name, head in zip(some, heads, strict=True) if passed_over.takes(name, lambda h=head: h)]  # type: ignore[misc]
        if not files:
            told = passed_over.sentence() if len(passed_over) else "there is nothing below it"
            raise ConfigurationError(f"{url} holds no image; {told}.")
        return cls(last_part(url), url, files, first_levels(files), [sizes[f] for f in files], store, passed_over)

    def __len__(self) -> int:
        """Return the number of image files."""
        return len(self.files)

    @property
    def argument(self) -> str:
        """The folder's URL."""
        return self.url

    @property
    def notes(self) -> Sequence[str]:
        """What was passed over."""
        return [self.passed_over.sentence()] if len(self.passed_over) else []

    def key(self, position: int) -> str:
        """Return the stable key of an image: its path relative to the folder."""
        return self.files[position]

    def position(self, key: str) -> int | None:
        """Return where the image of a key is, None where it is no key of this source."""
        return position_among(self.files, key)

    def place(self, position: int) -> str:
        """Return the URL of an image."""
        return f"{self.url}/{self.files[position]}"

    def read(self, position: int) -> bytes:
        """Return the bytes of an image file; who reads in order need not wait for each."""
        return self._ahead.at(position)

    @cached_property
    def _ahead(self) -> ReadAhead:
        return ReadAhead(lambda position: self.store.read(self.place(position)), len(self))

    def stamp(self, position: int) -> Stamp:
        """Return the size of an image file, as it was when the folder was listed."""
        return Stamp(self.sizes[position])

    def only(self, patterns: Sequence[str]) -> Self:
        """Return the part whose file names match one of some patterns; see `FolderSource.only`.

        Raises:
            ConfigurationError: No file matches.
        """
        kept = matching(self.files, patterns, self.name)
        files, labels, sizes = ([column[at] for at in kept] for column in (self.files, self.labels, self.sizes))
        name = f"{self.name}[{','.join(patterns)}]"
        return replace(self, name=name, files=files, labels=labels, sizes=sizes)  # type: ignore[arg-type]


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))
