"""Reading a log of queries, which a stranger may have written."""

from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_search.drift.query_log import NAMES
from ae_search.errors import ConfigurationError
from ae_search.exchange.parquet_rows import read_rows

Floats = npt.NDArray[np.float64]
_FIGURES = ("similarity", "distance", "error")
_COLUMNS = frozenset({"time_s", "fingerprint", "familiar", *_FIGURES})
# A year has so many seconds: a log of one query a second.
MOST_ROWS = 32_000_000


@dataclass(frozen=True)
class Logged:
    """Queries of one model, by their time; NaN where a figure was not looked at.

    Attributes:
        time_s: When each was asked, in s since 1970, float64 `[n]`, ascending.
        similarity: Cosine similarity of the first neighbour, float64 `[n]`.
        distance: To the tenth neighbour, float64 `[n]`.
        error: Reconstruction error, float64 `[n]`.
        familiar: Whether it was like what the model was trained on: 1, 0, or NaN where nobody knew, float64 `[n]`.
        others: Number of queries of other models, which are left out.
    """

    time_s: Floats
    similarity: Floats
    distance: Floats
    error: Floats
    familiar: Floats
    others: int = 0

    def __len__(self) -> int:
        return len(self.time_s)

    def between(self, first: int, last: int) -> "Logged":
        """Return the queries at some positions."""
        return Logged(*(getattr(self, name)[first:last] for name in ("time_s", *_FIGURES, "familiar")))


def read_log(folder: Path, fingerprint: str, *, since_s: float = -np.inf) -> Logged:
    """Read the log of queries in a folder.

    Args:
        folder: The folder that a `QueryLog` writes.
        fingerprint: Fingerprint of the model; distances of others cannot be compared.
        since_s: Time of the first query that counts, in s since 1970.

    Raises:
        ConfigurationError: There is no log, or a file of it is malformed.
    """
    files = sorted(file for file in folder.glob("*.parquet") if NAMES.fullmatch(file.name))
    if not files:
        raise ConfigurationError(
            f"{folder} holds no log of queries; `ae-search query` and `ae-search web` write one with "
            f"--query-log {folder}."
        )
    columns = {name: array("d") for name in ("time_s", *_FIGURES, "familiar")}
    others = 0
    for file in files:
        for row in read_rows(file, _COLUMNS.__contains__):
            if not _number(row.get("time_s")) >= since_s:
                continue
            if row.get("fingerprint") != fingerprint:
                others += 1
                continue
            for name, values in columns.items():
                values.append(_number(row.get(name)))
            if len(columns["time_s"]) > MOST_ROWS:
                raise ConfigurationError(f"{folder} holds more than {MOST_ROWS} queries; name a later --since.")
    arrays = {name: np.frombuffer(values, np.float64) for name, values in columns.items()}
    order = np.argsort(arrays["time_s"], kind="stable")
    return Logged(**{name: values[order] for name, values in arrays.items()}, others=others)


def _number(value: Any) -> float:
    """Return a number, NaN for what is none or infinite."""
    number = float(value) if isinstance(value, bool | int | float) else np.nan
    return number if np.isfinite(number) else np.nan
