"""What an index holds, in figures, and whether it is time to compact it."""

from contextlib import suppress
from pathlib import Path

from ae_search.contract import IndexInfo
from ae_search.index.store.snapshot import Snapshot, newest

# Added items are searched exactly, at about 0.05 ms for each thousand latents of 128; removed ones make the engine
# look at candidates in vain.
_MANY_ADDED = 10_000
_ADDED_SHARE = 0.1
_REMOVED_SHARE = 0.1
_FEW = 100


def info(path: Path, snapshot: Snapshot) -> IndexInfo:
    """Return the figures of an index."""
    manifest, folder = snapshot.manifest, snapshot.generation.folder
    added, removed = len(snapshot.delta), snapshot.delta.removed_count
    return IndexInfo(
        place=str(path),
        generation=folder.name,
        items=len(snapshot),
        latents=snapshot.latents_count(),
        in_base=manifest.items,
        added=added,
        removed=removed,
        bytes=_size(folder),
        model=manifest.model,
        image_shape=manifest.image_shape,
        latent_dim=manifest.latent_dim,
        metric=manifest.metric,
        engine=manifest.engine.engine,
        engine_options=manifest.engine.to_json(),
        effort=manifest.effort,
        recall=manifest.recall,
        target_recall=manifest.target_recall,
        recall_curve=manifest.recall_curve,
        sources=snapshot.sources(),
        created=manifest.created,
        compact_because=_reason(manifest.items, added, removed),
        fields=manifest.fields,
    )


def info_of(path: Path) -> IndexInfo:
    """Return the figures of an index that is not open; errors as in `LatentIndex.open`."""
    return info(path, newest(path))


def _size(folder: Path) -> int:
    size = 0
    with suppress(FileNotFoundError):  # a writer has published the next generation and removes this one
        for file in folder.iterdir():
            size += file.lstat().st_size
    return size


def _reason(in_base: int, added: int, removed: int) -> str | None:
    if added >= _MANY_ADDED or added >= max(_FEW, _ADDED_SHARE * in_base):
        return f"{added} items were added since the base was built, and each query is compared with all of them"
    if removed >= max(_FEW, _REMOVED_SHARE * in_base):
        return f"{removed} of the {in_base} items in the base are removed, and queries still come across them"
    return None
