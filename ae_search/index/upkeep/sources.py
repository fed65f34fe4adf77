"""Where an index's images came from, after they have moved."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

from ae_search.errors import ConfigurationError
from ae_search.index.items.changes import CHANGES
from ae_search.index.items.changes_writer import ChangesWriter
from ae_search.index.manifest import live_generation
from ae_search.index.store.following import changing
from ae_search.index.store.generation_writer import disk_errors
from ae_search.index.store.place import sole_writer
from ae_search.index.store.snapshot import newest


def rename_source(path: Path, old: str, new: str, *, wait_s: float = 0.0) -> None:
    """Let a source have another name; see `Index.rename_source`. Killed half way, the same call does the rest."""
    live_generation(path)
    with sole_writer(path, wait_s=wait_s):
        snapshot = newest(path)
        if old not in snapshot.sources():
            told = ", ".join(map(repr, snapshot.sources())) or "none that it knows"
            raise ConfigurationError(f"{path} has no source {old!r}; nothing was changed. Its sources: {told}.")
        generation, manifest = snapshot.generation.folder, snapshot.manifest
        names = tuple(dict.fromkeys(new if name == old else name for name in manifest.sources))
        with disk_errors(path), closing(ChangesWriter(generation / CHANGES)) as changes:
            changes.rename_source(old, new)
            with changing(path):
                changes.commit()
                replace(manifest, sources=names).write(generation)
