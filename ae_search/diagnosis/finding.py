"""What one check came to."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """What one check came to.

    Attributes:
        check: Its name: "name resolution", "port", "TLS", "model", …
        verdict: How it ended.
        told: What was seen.
        advice: What to do, empty where nothing is.
    """

    check: str
    verdict: Verdict
    told: str
    advice: str = ""


def ok(check: str, told: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(check, Verdict.OK, told)


def wrong(check: str, told: str, advice: str) -> Finding:
    """Return a finding that something is wrong."""
    return Finding(check, Verdict.WRONG, told, advice)


def warning(check: str, told: str, advice: str) -> Finding:
    """Return a finding that something works, but not as well as it might."""
    return Finding(check, Verdict.WARNING, told, advice)


def skipped(check: str, told: str) -> Finding:
    """Return a finding that a check was not made."""
    return Finding(check, Verdict.SKIPPED, told)
