"""What is found for one question, page after page, until nothing is left.

The first page is what a search answers. Those after it come of an exact search, which leaves nothing out, without what
the first page had: each item comes once, also where the first search missed some, which then stand at the start of the
second page.
"""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

from ae_search.calibration import Verdict
from ae_search.contract import Neighbour

# Neighbours that are looked for at once, for the pages to come.
_AHEAD = 4
_LEAST_LOOK = 1000
_KEPT_ROWS = 200_000
_KEPT_S = 60.0


class Row(NamedTuple):
    """One thing found; verdict and score where it was judged whether it is the original."""

    neighbour: Neighbour
    verdict: Verdict | None = None
    score: float | None = None


# Finds up to so many, exactly or not.
Find = Callable[[int, bool], Awaitable[list[Row]]]


@dataclass(frozen=True)
class Listing:
    """What is known of the answer to a question.

    Attributes:
        rows: In the order of the pages.
        is_all: Whether there is nothing beyond them.
    """

    rows: list[Row]
    is_all: bool


@dataclass(frozen=True)
class Page:
    """One page.

    Attributes:
        rows: What is on it.
        before: What came before it, as far as it is known.
        goes_on: Whether there may be another.
        cut: Whether there is more than can be listed.
    """

    rows: list[Row]
    before: list[Row]
    goes_on: bool
    cut: bool = False


class Listings:
    """Finds pages, and keeps what was found beyond them for a minute. All methods belong to one event loop."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[float, Listing]] = OrderedDict()
        self._rows = 0

    def clear(self) -> None:
        """Forget everything: the index has changed."""
        self._kept.clear()
        self._rows = 0

    async def first(self, find: Find, k: int, *, exact: bool) -> Page:
        """Return the first page, of k rows."""
        rows = await find(k, exact)
        return Page(rows, [], len(rows) == k)

    async def later(self, find: Find, k: int, offset: int, *, name: str, exact: bool, depth: int) -> Page:
        """Return a page further on.

        Args:
            find: Finds rows.
            k: Rows of each page.
            offset: Rows before it.
            name: What tells the question, and the state of the index as far as it matters.
            exact: Whether the first page comes of an exact search.
            depth: Rows that are listed at most.
        """
        wanted = min(offset + k, depth)
        listing = self._get(name)
        if listing is None or (len(listing.rows) < wanted and not listing.is_all):
            listing = await self._look(find, k, min(depth, max(_LEAST_LOOK, _AHEAD * wanted)), exact)
            self._keep(name, listing)
        rows = listing.rows[offset:wanted]
        left = len(listing.rows) > wanted or not listing.is_all
        return Page(rows, listing.rows[:offset], left and wanted < depth, left and wanted >= depth)

    async def _look(self, find: Find, k: int, many: int, exact: bool) -> Listing:
        first = await find(k, exact)
        shown = {row.neighbour.key for row in first}
        found = await find(many, True)
        rows = first + [row for row in found if row.neighbour.key not in shown]
        return Listing(rows[:many], len(found) < many)

    def _get(self, name: str) -> Listing | None:
        found = self._kept.get(name)
        return found[1] if found is not None and time.monotonic() - found[0] < _KEPT_S else None

    def _keep(self, name: str, listing: Listing) -> None:
        if name in self._kept:
            self._drop(name)
        self._kept[name] = (time.monotonic(), listing)
        self._rows += len(listing.rows)
        while self._rows > _KEPT_ROWS and len(self._kept) > 1:
            self._drop(next(iter(self._kept)))

    def _drop(self, name: str) -> None:
        self._rows -= len(self._kept.pop(name)[1].rows)
