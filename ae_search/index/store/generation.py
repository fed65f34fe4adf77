"""One generation, opened: the files that never change, and the changes since."""

import mmap
import os
from pathlib import Path

from ae_search.errors import IndexDamagedError
from ae_search.files import open_regular
from ae_search.index.engine import Engine, engine_of
from ae_search.index.items.catalogue import CATALOGUE, Catalogue
from ae_search.index.items.changes import CHANGES, Changes
from ae_search.index.items.names import NAMES, Names
from ae_search.index.items.owners import OWNERS, Owners
from ae_search.index.manifest import MANIFEST, Manifest
from ae_search.index.shortage import shortage_named
from ae_search.index.store.proof import check_files


class Generation:
    """The files of one generation, checked and mapped.

    Args:
        folder: The generation's folder.

    Attributes:
        folder: The generation's folder.
        manifest: Its manifest.
        base: Its base, which the engine answers from.
        owners: Which item each latent of the base belongs to; None where each item has one.
        names: Key, label and metadata of the base's items.
        catalogue: The same for looking up and filtering.
        changes: What was added and removed since.

    Raises:
        ConfigurationError: It has another format than this release reads.
        IndexDamagedError: A file is missing, cut short or altered.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._written = _identity(folder)
        manifest = self.manifest = Manifest.read(folder)
        try:
            with shortage_named(folder):
                check_files(folder, manifest)
                self.names = Names(folder / NAMES, manifest.items)
                self.catalogue = Catalogue(folder / CATALOGUE, manifest.items, manifest.fields)
                self.changes = Changes(folder / CHANGES, manifest)
                self.owners: Owners | None = None
                if manifest.most_latents > 1:
                    self.owners = Owners(folder / OWNERS, manifest.items, manifest.latents)
                engine = engine_of(manifest.engine)
                _check_room(folder / engine.file)
                self.base: Engine = engine.open(folder / engine.file, manifest.base_shape, manifest.engine)
        except OSError as error:
            # A writer may remove it meanwhile, in which case another generation is live.
            raise IndexDamagedError(f"Cannot read {folder}: {error}; restore it or build the index anew.") from error

    def is_still(self, folder: Path) -> bool:
        """Tell whether a folder holds this generation, with the manifest that was read."""
        return folder == self.folder and _identity(folder) == self._written


def _check_room(path: Path) -> None:
    """Map a file and let go of it: where there is no room for it, an engine may not notice and the process dies."""
    descriptor = open_regular(path)
    try:
        if size := os.fstat(descriptor).st_size:
            mmap.mmap(descriptor, size, prot=mmap.PROT_READ).close()
    finally:
        os.close(descriptor)


def _identity(folder: Path) -> tuple[int, int] | None:
    """Return what changes when a manifest is replaced."""
    try:
        stat = os.lstat(folder / MANIFEST)
    except OSError:
        return None
    return stat.st_ino, stat.st_ctime_ns
