"""Whether what a search finds is the original of the query, or merely resembles it."""

from collections.abc import Sequence
from typing import NamedTuple

from ae_search.calibration import Calibration, Verdict, stored
from ae_search.contract import Index, Neighbour
from ae_search.errors import ConfigurationError

# A neighbour of a query and its score by the view that found it; see `Calibration`.
Scored = tuple[float, Neighbour]


class Candidate(NamedTuple):
    """An item that may be the original of a query.

    Attributes:
        verdict: "this is it", "probably" or "not here", by the index's calibration.
        score: How far its similarity is on the way from what is usual for the query to 1, which is the query itself;
            see `calibration.Calibration`.
        neighbour: The item.
    """

    verdict: Verdict
    score: float
    neighbour: Neighbour


def candidates(found: Sequence[Scored], calibration: Calibration, *, views: bool = False) -> list[Candidate]:
    """Return what was found for one query, judged; with altered views if `views`."""
    return [Candidate(calibration.verdict(score, views=views), score, neighbour) for score, neighbour in found]


def calibration_of(index: Index) -> Calibration:
    """Return the calibration of an index.

    Raises:
        ConfigurationError: There is none.
    """
    found = stored(index)
    if found is None:
        raise ConfigurationError(
            f"{index.place} is not calibrated, so nothing tells an original from what resembles it. `ae-search index "
            "tune` calibrates an index of at least 3 items."
        )
    return found
