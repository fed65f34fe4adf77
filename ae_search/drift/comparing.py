"""How far queries have moved from what is usual for an index."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ae_search.drift.reading import Floats, Logged
from ae_search.errors import ConfigurationError
from ae_search.extras import needs
from ae_search.trust import BEYOND, Usual

Verdict = Literal["as usual", "moved a little", "moved"]

# As credit scoring has it (Siddiqi, Credit Risk Scorecards, 2006).
LITTLE, MUCH = 0.1, 0.25
_BINS = 10
FEWEST_QUERIES = 50
WINDOWS = 10


@dataclass(frozen=True)
class Measure:
    """One figure of the queries beside that of held-out items.

    Attributes:
        name: "similarity" of the first neighbour, "distance" to the tenth, or reconstruction "error".
        queries: Number of queries that have it.
        psi: Population stability index, at least 0.
        ks: Kolmogorov-Smirnov statistic, in [0, 1]: the largest difference of the two cumulative shares.
        p_value: Probability of so large a one by chance, in [0, 1].
        usual_median: Median of the held-out items.
        median: Median of the queries.
    """

    name: str
    queries: int
    psi: float
    ks: float
    p_value: float
    usual_median: float
    median: float

    @property
    def verdict(self) -> Verdict:
        """What the population stability index is taken for."""
        return "moved" if self.psi >= MUCH else "moved a little" if self.psi >= LITTLE else "as usual"


@dataclass(frozen=True)
class Window:
    """Some queries that follow each other.

    Attributes:
        first_s: Time of the first, in s since 1970.
        last_s: Time of the last.
        queries: Their number.
        psi: Population stability index of the distance to the tenth neighbour.
        distrusted: Share of those beyond 99 % of the held-out items, in [0, 1].
    """

    first_s: float
    last_s: float
    queries: int
    psi: float
    distrusted: float


@dataclass(frozen=True)
class Drift:
    """How far queries have moved.

    Attributes:
        queries: Number of queries.
        others: Number of queries of other models, which were left out.
        distrusted: Share of queries that are unlike what the model was trained on, by distance, in [0, 1].
        measures: One for each figure that queries and items have.
        windows: The same over time.
    """

    queries: int
    others: int
    distrusted: float
    measures: tuple[Measure, ...]
    windows: tuple[Window, ...]

    @property
    def verdict(self) -> Verdict:
        """The verdict on the figure that has moved most."""
        return max(self.measures, key=lambda measure: measure.psi).verdict


def compare(logged: Logged, usual: Usual) -> Drift:
    """Compare queries with what an index keeps.

    Args:
        logged: The queries.
        usual: What the index keeps, see `trust.stored`.

    Raises:
        ConfigurationError: There are fewer than 50 queries, or SciPy is missing.
    """
    measures = [
        _measure(name, seen, kept)
        for name, (seen, kept) in figures(logged, usual).items()
        if len(seen) >= FEWEST_QUERIES and len(kept)
    ]
    if not measures:
        raise ConfigurationError(
            f"At least {FEWEST_QUERIES} queries of the index's model are compared. Received: {len(logged)}, and "
            f"{logged.others} of other models."
        )
    parts = max(1, min(WINDOWS, len(logged) // FEWEST_QUERIES))
    edges = np.linspace(0, len(logged), parts + 1).astype(int)
    windows = [_window(logged.between(first, last), usual) for first, last in zip(edges, edges[1:], strict=False)]
    return Drift(len(logged), logged.others, _distrusted(logged, usual), tuple(measures), tuple(windows))


def figures(logged: Logged, usual: Usual) -> Mapping[str, tuple[Floats, npt.NDArray[np.float32]]]:
    """Return each figure of the queries, without those that lack it, and of the held-out items, by name."""
    pairs: dict[str, tuple[Any, Any]] = {
        "similarity": (logged.similarity, usual.similarities),
        "distance": (logged.distance, usual.distances),
        "error": (logged.error, usual.errors),
    }
    return {name: (seen[np.isfinite(seen)], kept) for name, (seen, kept) in pairs.items()}


def stability_index(seen: npt.NDArray[Any], kept: npt.NDArray[Any]) -> float:
    """Return the population stability index of some numbers against others, by the tenths of the latter.

    Half a number is added to each tenth, so that an empty one is no infinity.
    """
    edges = np.unique(np.quantile(kept, np.linspace(0, 1, _BINS + 1)[1:-1]))
    shares = []
    for values in (seen, kept):
        counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1) + 0.5
        shares.append(counts / counts.sum())
    return float(((shares[0] - shares[1]) * np.log(shares[0] / shares[1])).sum())


def _measure(name: str, seen: Floats, kept: npt.NDArray[np.float32]) -> Measure:
    with needs("A comparison of queries needs SciPy", "drift"):
        from scipy.stats import ks_2samp
    found = ks_2samp(seen.astype(np.float32), kept, method="asymp")
    psi = stability_index(seen.astype(np.float32), kept)
    ks, p_value = float(found.statistic), float(found.pvalue)
    return Measure(name, len(seen), psi, ks, p_value, float(np.median(kept)), float(np.median(seen)))


def _window(logged: Logged, usual: Usual) -> Window:
    seen = logged.distance[np.isfinite(logged.distance)]
    psi = stability_index(seen.astype(np.float32), usual.distances) if len(seen) and len(usual.distances) else np.nan
    return Window(float(logged.time_s[0]), float(logged.time_s[-1]), len(logged), psi, _distrusted(logged, usual))


def _distrusted(logged: Logged, usual: Usual) -> float:
    seen = logged.distance[np.isfinite(logged.distance)]
    shares = np.searchsorted(usual.distances, seen.astype(np.float32), side="left") / max(1, len(usual.distances))
    return float((shares > BEYOND).mean()) if len(seen) else 0.0
