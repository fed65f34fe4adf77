"""Requests that wait to be run together."""

import asyncio
from collections import deque
from dataclasses import dataclass, field

from ae_search.model_server.servable import Inputs, Outputs, Servable

# Of the recent number of callers. Fewer make smaller runs, which cost more than the waiting; the last ones may be slow.
COMPANY = 0.8


@dataclass(eq=False)
class Task:
    """One request that waits for its outputs."""

    servable: Servable
    signature: str
    inputs: Inputs
    rows: int
    n_bytes: int
    outputs: "asyncio.Future[Outputs]"


@dataclass(eq=False)
class Queue:
    """The requests of one signature of one loaded version.

    Attributes:
        waiting: Requests in order of arrival.
        rows: Their rows.
        n_bytes: What their inputs take.
        running: Runs under way.
        unanswered: Requests that wait or run.
        expected: The most that were unanswered at a time, of late.
        timer: Ends the wait for company.
    """

    waiting: deque[Task] = field(default_factory=deque)
    rows: int = 0
    n_bytes: int = 0
    running: int = 0
    unanswered: int = 0
    expected: float = 1.0
    timer: asyncio.Handle | None = None

    def add(self, task: Task) -> None:
        """Take one more request."""
        self.waiting.append(task)
        self.rows += task.rows
        self.n_bytes += task.n_bytes
        self.unanswered += 1
        self.expected = max(self.expected, self.unanswered)

    def pop(self) -> None:
        """Take the first request out."""
        task = self.waiting.popleft()
        self.rows -= task.rows
        self.n_bytes -= task.n_bytes

    def leave(self, task: Task) -> None:
        """Forget a request whose caller has gone, if it still waits: its place is another's."""
        if task in self.waiting:
            self.waiting.remove(task)
            self.rows -= task.rows
            self.n_bytes -= task.n_bytes
            self.unanswered -= 1

    @property
    def in_company(self) -> bool:
        """Whether most of those that use to come are here."""
        return len(self.waiting) >= COMPANY * self.expected
