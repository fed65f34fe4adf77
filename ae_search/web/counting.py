"""What the filters of the page are made of: labels with counts, and fields of the metadata."""

from collections import Counter
from itertools import islice
from typing import Any

from ae_search.contract import Index

MOST_LABELS = 1000
MOST_FIELDS = 100
SAMPLED = 10_000
_MOST_VALUES = 20
# Values of one field that are counted apart; texts that are all different are no filter.
_COUNTED = 1000
_LONGEST = 100


def label_counts(index: Index) -> Counter[str | None]:
    """Return how many items have each label, None for none."""
    return Counter(index.labels())


def labels(counts: Counter[str | None], find: str) -> dict[str, Any]:
    """Return labels with their counts, the most frequent first: those that hold a text, in capitals or not."""
    wanted = find.casefold()
    found = counts
    if wanted:
        found = Counter({label: count for label, count in counts.items() if label and wanted in label.casefold()})
    return {
        "labels": [{"label": label, "count": count} for label, count in found.most_common(MOST_LABELS)],
        "items": counts.total(),
        "more": len(found) > MOST_LABELS,
    }


def fields(index: Index) -> dict[str, Any]:
    """Return the fields of the metadata of the first items, the most frequent first."""
    found: dict[str, _Field] = {}
    sampled = 0
    for _, _, metadata in islice(index.items(), SAMPLED):
        sampled += 1
        for name, value in metadata.items():
            if name not in found and len(found) == MOST_FIELDS:
                continue
            found.setdefault(name, _Field()).add(value)
    told = sorted(found.items(), key=lambda pair: (-pair[1].items, pair[0]))
    return {"fields": [{"name": name, **field.told()} for name, field in told], "sampled": sampled}


class _Field:
    def __init__(self) -> None:
        self.items = 0
        self._kinds: dict[str, None] = {}
        # By kind as well: true and 1 are equal.
        self._values: Counter[tuple[str, Any]] = Counter()
        self._numbers: list[float] = []

    def add(self, value: Any) -> None:
        kind = _kind(value)
        self.items += 1
        self._kinds[kind] = None
        if kind in ("list", "object") or (kind == "text" and len(value) > _LONGEST):
            return
        if kind == "number":
            self._numbers = [min([*self._numbers[:1], value]), max([*self._numbers[1:], value])]
        if (kind, value) in self._values or len(self._values) < _COUNTED:
            self._values[kind, value] += 1

    def told(self) -> dict[str, Any]:
        values = [{"value": value, "count": count} for (_, value), count in self._values.most_common(_MOST_VALUES)]
        told: dict[str, Any] = {"kinds": list(self._kinds), "items": self.items, "values": values}
        if self._numbers:
            told |= {"min": self._numbers[0], "max": self._numbers[-1]}
        return told


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else "list" if isinstance(value, list) else "object"
