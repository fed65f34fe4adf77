"""Which images are not among the latents, and why; and which are only in part."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class LeftOut:
    """Key and reason of the images that were left out, and what else is to be told of those that were not.

    Attributes:
        damaged: Those that cannot be read.
        refused: Those that the server refused, although they can be decoded here.
        truncated: Keys of JPEG files that are cut short; they were not left out.
    """

    damaged: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    truncated: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        """Return how many were left out."""
        return len(self.damaged) + len(self.refused)

    def add(self, other: "LeftOut") -> None:
        """Take in those of another part of the images."""
        self.damaged |= other.damaged
        self.refused |= other.refused
        self.truncated += other.truncated

    def in_file(self) -> dict[str, Any]:
        """Return what is written in a file of latents about it."""
        return {"left_out": self.damaged, "refused": self.refused, "truncated": self.truncated}

    @classmethod
    def from_file(cls, about: Mapping[str, Any]) -> "LeftOut | None":
        """Return what a file of latents tells, None where that is something else."""
        damaged, refused, truncated = about.get("left_out"), about.get("refused", {}), about.get("truncated", [])
        if not (isinstance(damaged, dict) and isinstance(refused, dict) and isinstance(truncated, list)):
            return None
        damaged, refused = ({str(key): str(why) for key, why in some.items()} for some in (damaged, refused))
        return cls(damaged, refused, [str(key) for key in truncated])

    def first(self) -> tuple[str, str]:
        """Return key and reason of one of them, a refused one where there is any."""
        return next(iter((self.refused or self.damaged).items()))

    def lines(self) -> str:
        """Return them as JSON lines."""
        kinds = ((self.damaged, False), (self.refused, True))
        rows = [{"key": key, "reason": why, "refused": refused} for some, refused in kinds for key, why in some.items()]
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
