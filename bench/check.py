"""A promise, and what was measured."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    """A promise and what was measured.

    Attributes:
        name: What was measured, and on which data.
        measured: The figure.
        target: Its limit.
        unit: Unit of both.
        at_most: Whether the limit is an upper one.
    """

    name: str
    measured: float
    target: float
    unit: str = ""
    at_most: bool = True

    @property
    def passed(self) -> bool:
        """Whether the promise is kept."""
        return self.measured <= self.target if self.at_most else self.measured >= self.target

    def __str__(self) -> str:
        sign, unit = "<=" if self.at_most else ">=", f" {self.unit}" if self.unit else ""
        verdict = "PASS" if self.passed else "FAIL"
        return f"{self.name}: {self.measured:.4g}{unit} ({sign} {self.target:g}{unit}) {verdict}"

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self) | {"passed": self.passed}
