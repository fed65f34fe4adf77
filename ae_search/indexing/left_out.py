"""Which images are not among the latents, and why."""

import json
from dataclasses import dataclass, field


@dataclass
class LeftOut:
    """Key and reason of the images that were left out.

    Attributes:
        damaged: Those that cannot be read.
        refused: Those that the server refused, although they can be decoded here.
    """

    damaged: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return how many they are."""
        return len(self.damaged) + len(self.refused)

    def add(self, other: "LeftOut") -> None:
        """Take in those of another part of the images."""
        self.damaged |= other.damaged
        self.refused |= other.refused

    def first(self) -> tuple[str, str]:
        """Return key and reason of one of them, a refused one where there is any."""
        return next(iter((self.refused or self.damaged).items()))

    def lines(self) -> str:
        """Return them as JSON lines."""
        kinds = ((self.damaged, False), (self.refused, True))
        rows = [{"key": key, "reason": why, "refused": refused} for some, refused in kinds for key, why in some.items()]
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
