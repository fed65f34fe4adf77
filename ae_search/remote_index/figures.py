"""Figures of an index on another machine: when writing it anew is worth it, and which sources it has."""

from collections.abc import Sequence

from ae_search.errors import ConfigurationError

_SHARE, _FEW = 0.1, 100


def reason_to_compact(in_base: int, added: int, removed: int) -> str | None:
    """Return why an index is worth writing anew, None where it is not yet.

    Args:
        in_base: Items when its graph was built.
        added: Items added since.
        removed: Items of these removed since.
    """
    if added >= max(_FEW, _SHARE * in_base):
        return f"{added} items were added since the graph was built and its recall was measured"
    if removed >= max(_FEW, _SHARE * in_base):
        return f"{removed} of the {in_base} items that the graph was built of are removed, and take up room"
    return None


def renamed_sources(known: Sequence[str], old: str, new: str) -> tuple[str, ...]:
    """Return the sources of an index after one of them has got another name; see `Index.rename_source`.

    Raises:
        ConfigurationError: The index has no such source.
    """
    if old not in known:
        told = ", ".join(map(repr, known)) or "none that it knows"
        raise ConfigurationError(f"The index has no source {old!r}; nothing was changed. Its sources: {told}.")
    return tuple(dict.fromkeys(new if name == old else name for name in known))
