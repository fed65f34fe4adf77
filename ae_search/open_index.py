"""The one door to an index: open, build or verify one, wherever it is."""

from collections.abc import Sequence
from pathlib import Path

from ae_search.contract import Builder, Check, Index, Origin
from ae_search.errors import ConfigurationError
from ae_search.index import BuildOptions, IndexBuilder, LatentIndex

_DEFAULT = BuildOptions()


def open_index(place: str | Path) -> Index:
    """Open the index that is at a place.

    Args:
        place: A folder.

    Raises:
        ConfigurationError: There is no index, or one of another format, or no index can be at such a place.
        IndexDamagedError: It is damaged.
    """
    return LatentIndex.open(_folder(place))


def build_index(
    place: str | Path, model: Origin, options: BuildOptions = _DEFAULT, *, sources: Sequence[str] = ()
) -> Builder:
    """Return a builder of the index at a place; all of it appears, or nothing.

    Args:
        place: A folder that is absent, empty, or holds an index to be replaced.
        model: Card of the model that the latents come from, or what else tells the same of it.
        options: How it is built.
        sources: Names of the sources that the items come from.

    Raises:
        ConfigurationError: The place must not be written, or the latents are too large.

    Example:
        with build_index("index", card) as builder:
            builder.add(latents, keys, labels)
    """
    return IndexBuilder(_folder(place), model, options, sources=sources)


def verify_index(place: str | Path) -> list[Check]:
    """Check everything about the index at a place, also one that is too damaged to be opened; see `Index.verify`.

    Raises:
        ConfigurationError: There is no index, or memory or file descriptors ran out.
    """
    from ae_search.index.upkeep.verify import verify

    return verify(_folder(place))


def _folder(place: str | Path) -> Path:
    if "://" in str(place):
        raise ConfigurationError(f"An index is in a folder of this machine. Received: {str(place)!r}.")
    return Path(place)
