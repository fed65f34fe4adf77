"""What `doctor` tells of the server of an index."""

from typing import NamedTuple


class Health(NamedTuple):
    """One thing that was looked at.

    Attributes:
        told: What was found.
        advice: What to do about it, None where it is well.
    """

    told: str
    advice: str | None
