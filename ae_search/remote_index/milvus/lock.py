"""One writer at a time, where the server has no locks: a writer may write if it sees no claim but its own.

A claim is a row that its writer renews. Each writer inserts one and then reads all of them, as they are by then: of two
that come at once, at least the later one sees the other and gives way. A claim that is not renewed for `LEASE_S` is
that of a process which is gone; a writer that has watched it for so long may write in its place.
"""

import logging
import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ae_search.errors import AeSearchError, IndexBusyError, ServerUnavailableError
from ae_search.remote_index.milvus.conditions import key_hash
from ae_search.remote_index.milvus.place import MilvusPlace
from ae_search.remote_index.milvus.schema import ITEMS, WRITERS, owner_text
from ae_search.remote_index.milvus.server import Server

log = logging.getLogger(__name__)

LEASE_S = 60.0
_RENEW_S = 4.0
# A writer that could not renew its claim for so long changes nothing: another one begins 20 s later.
_FRESH_S = 40.0
_POLL_S = 0.1
# Two that gave way to each other try again at different times.
_ATTEMPTS = 3


class Claim:
    """The right to write an index, from `hold` to the end of its block.

    Args:
        server: The server.
        place: The index.

    Attributes:
        took_over: Whether a writer before left without an end.
        abandoned: Whether to leave the claim to grow old, so that the next writer clears up.
    """

    def __init__(self, server: Server, place: MilvusPlace) -> None:
        self.took_over = self.abandoned = False
        self._server, self._place, self._index = server, place, key_hash(place.index)
        self._number = secrets.randbits(62)
        self._rows: list[int] = []
        self._owner = owner_text(f"process {os.getpid()} on {socket.gethostname()}")
        self._renewed = 0.0
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, wait_s: float) -> None:
        """Take it.

        Raises:
            IndexBusyError: Another process has it for longer than that.
        """
        deadline = time.monotonic() + wait_s
        watched: dict[int, tuple[frozenset[int], float]] = {}
        attempts = 0
        while True:
            self._insert()
            others = self._others()
            old = self._old(others, watched)
            if len(old) == len(others):
                self._clear(others)
                break
            self._withdraw()
            attempts += 1
            if time.monotonic() >= deadline and (wait_s or attempts >= _ATTEMPTS):
                owner = next(iter(others.values()))[1]
                raise IndexBusyError(
                    f"{self._place.name} is being written by {owner}; wait for it (--wait SECONDS; {LEASE_S:.0f} are "
                    "enough where that process is gone)."
                )
            time.sleep(_POLL_S * random.uniform(0.5, 2.0))  # noqa: S311
            while others and time.monotonic() < deadline:
                others = self._others()
                if len(self._old(others, watched)) == len(others):
                    break
                time.sleep(_POLL_S)
        self._thread = threading.Thread(target=self._renew, name="ae-search claim", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Check that nobody can have taken it away.

        Raises:
            ServerUnavailableError: It could not be renewed for too long.
        """
        if time.monotonic() - self._renewed > _FRESH_S:
            raise ServerUnavailableError(
                f"{self._place.name}: the server did not answer for so long that another process may write by now; "
                "nothing was changed. Try again."
            )

    def release(self) -> None:
        """Give it back; a second time does nothing."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._rows and not self.abandoned:
            self._withdraw()

    def _insert(self) -> None:
        before, row = list(self._rows), secrets.randbits(62)
        asked = time.monotonic()
        values = {"pk": row, "index_hash": self._index, "claim": self._number, "owner": self._owner}
        # Noted first: a call that fails, or is interrupted, may have left its row all the same.
        self._rows.append(row)
        self._server.insert(WRITERS, [{**values, "latent": [0.0, 0.0]}], ITEMS)
        self._renewed = asked
        if before:
            self._server.delete(WRITERS, before, ITEMS)
            self._rows = [row]

    def _withdraw(self) -> None:
        with suppress(AeSearchError, ValueError):
            self._server.delete(WRITERS, self._rows, ITEMS)
        self._rows = []

    def _others(self) -> dict[int, tuple[frozenset[int], str]]:
        """Return the rows of each other claim, and whose it is."""
        of_index, fields = f"index_hash == {self._index}", ("pk", "claim", "owner")
        rows = self._server.query(WRITERS, of_index, fields, partition=ITEMS, level="strong")
        found: dict[int, tuple[frozenset[int], str]] = {}
        for row in rows:
            if row["claim"] != self._number:
                known = found.get(row["claim"], (frozenset(), ""))[0]
                found[row["claim"]] = known | {row["pk"]}, str(row["owner"])
        return found

    def _old(
        self, others: dict[int, tuple[frozenset[int], str]], watched: dict[int, tuple[frozenset[int], float]]
    ) -> list[int]:
        """Return the claims that have not been renewed for as long as they were watched."""
        now = time.monotonic()
        for claim, (rows, _) in others.items():
            if claim not in watched or watched[claim][0] != rows:
                watched[claim] = rows, now
        return [claim for claim in others if now - watched[claim][1] >= LEASE_S]

    def _clear(self, others: dict[int, tuple[frozenset[int], str]]) -> None:
        if others:
            self.took_over = True
            owners = ", ".join(owner for _, owner in others.values())
            log.warning("%s: writing in the place of %s, which has left without an end", self._place.name, owners)
            self._server.delete(WRITERS, [row for rows, _ in others.values() for row in rows], ITEMS)

    def _renew(self) -> None:
        while not self._end.wait(_RENEW_S):
            try:
                self._insert()
            except (AeSearchError, ValueError) as error:
                log.info("the claim on %s was not renewed: %s", self._place.name, error)


@contextmanager
def hold(server: Server, place: MilvusPlace, wait_s: float) -> Iterator[Claim]:
    """Hold the right to write an index.

    Raises:
        IndexBusyError: Another process writes it.
    """
    server.check_open()
    claim = Claim(server, place)
    try:
        claim.take(wait_s)
    except BaseException:
        claim.release()
        raise
    try:
        yield claim
    finally:
        claim.release()
