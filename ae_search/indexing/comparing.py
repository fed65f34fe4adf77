"""Which pictures of a source are others than those that an index holds under the same keys."""

from collections.abc import Iterator, Sequence

from ae_search.contract import Index
from ae_search.data import Source
from ae_search.data.digests import ItemDigest, content_digest
from ae_search.errors import ImageError

_KEYS_PER_LOOK = 4096


def changed_files(source: Source, index: Index, positions: Sequence[int]) -> list[int]:
    """Return the positions of images whose files have changed, as far as size and time of the file tell.

    A file of another size has changed; of one that was written since, the content is compared. Images without files of
    their own are not looked at.

    Args:
        source: The images.
        index: The index.
        positions: Images whose keys the index has.
    """
    return [
        position for position, stored in _stored(source, index, positions) if _file_changed(source, position, stored)
    ]


def is_other_picture(source: Source, position: int, stored: ItemDigest) -> bool:
    """Tell whether an image is another one than that of a stored digest, by its content; unreadable ones are."""
    try:
        stamp = source.stamp(position)
        if stamp is not None and stamp.size != stored.stamp.size:
            return True
        return content_digest(source.read(position)) != stored.content
    except ImageError:
        return True  # encoding it again tells why it cannot be read


def _file_changed(source: Source, position: int, stored: ItemDigest | None) -> bool:
    if stored is None:
        return False
    try:
        stamp = source.stamp(position)
    except ImageError:
        return False
    if stamp is None or stamp == stored.stamp:
        return False
    if stamp.size == stored.stamp.size and not stamp.time_ns:
        return False
    return is_other_picture(source, position, stored)


def _stored(source: Source, index: Index, positions: Sequence[int]) -> Iterator[tuple[int, ItemDigest | None]]:
    for start in range(0, len(positions), _KEYS_PER_LOOK):
        some = positions[start : start + _KEYS_PER_LOOK]
        digests = index.digests([source.key(position) for position in some])
        yield from zip(some, map(ItemDigest.parse, digests), strict=True)
