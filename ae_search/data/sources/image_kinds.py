"""Which kinds of image files a source takes, and how it tells what it passes over."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import PurePosixPath

from PIL import features

from ae_search.extras import install
from ae_search.image_file.kinds import Kind, kind_of

# Files of such a name are images to their owner: where their content is none, they are damaged, and named.
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".avif", ".heic", ".heif"}
)
_ALWAYS: frozenset[Kind] = frozenset({"JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"})
_MAX_SUFFIX = 12
_KINDS_TOLD = 8


@cache
def taken_kinds() -> frozenset[Kind]:
    """Return the kinds of image files that can be decoded here."""
    kinds = set(_ALWAYS)
    if features.check("avif"):
        kinds.add("AVIF")
    if find_spec("pillow_heif") is not None:
        kinds.add("HEIC")
    return frozenset(kinds)


@dataclass
class PassedOver:
    """Files that are no images, or of a kind that cannot be decoded here; counted by suffix.

    Attributes:
        counts: How many there are, by the suffix of the name and what would decode them.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def takes(self, name: str, head: Callable[[], bytes]) -> bool:
        """Tell whether a file is an image, by its content; take note of it where it is none.

        Args:
            name: Its name, or its path.
            head: Returns its first `KIND_BYTES` bytes.
        """
        kind, suffix = kind_of(head()), PurePosixPath(name).suffix.lower()
        if kind in taken_kinds() or (kind is None and suffix in IMAGE_SUFFIXES):
            return True
        self.counts[_shown(suffix), "" if kind is None else _advice(kind)] += 1
        return False

    def __len__(self) -> int:
        """Return how many there are."""
        return self.counts.total()

    def sentence(self) -> str:
        """Return them for a person: "skipped 5 .heic (pip install ...), 9 .txt"."""
        common = sorted(self.counts.items(), key=lambda one: (not one[0][1], -one[1], one[0]))
        parts = [f"{n} {suffix}{f' ({advice})' if advice else ''}" for (suffix, advice), n in common[:_KINDS_TOLD]]
        if rest := sum(number for _, number in common[_KINDS_TOLD:]):
            parts.append(f"{rest} others")
        return f"skipped {', '.join(parts)}"


def _advice(kind: Kind) -> str:
    if kind == "HEIC":
        return install("heif")
    return f"{kind}, for which there is no decoder here; save them as PNG"


def _shown(suffix: str) -> str:
    if not suffix:
        return "without a suffix"
    return suffix if len(suffix) <= _MAX_SUFFIX and suffix.isprintable() else "of other suffixes"
