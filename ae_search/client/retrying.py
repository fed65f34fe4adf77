"""When a request that failed is sent again, and how long to wait before; gRPC itself sends nothing again.

| what came | how often it is sent again |
|---|---|
| the server has no thread left, or its batching queue is full | until the request's time is up |
| UNAVAILABLE or CANCELLED, from a server that has answered before | until the request's time is up |
| UNAVAILABLE, where none ever answered, or TLS failed | 4 times, within about three seconds |
| anything else | never |
"""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Self

import grpc

from ae_search.client.rpc_errors import TLS_FAILED
from ae_search.errors import ConfigurationError

# A server that has no thread left, or whose batching queue is full, is alive and will take the request soon.
_OVERLOAD = {
    grpc.StatusCode.RESOURCE_EXHAUSTED: "Server Threadpool Exhausted",
    grpc.StatusCode.UNAVAILABLE: "batch scheduling queue",
}
FIRST_WAIT_S = 0.01
# Longer waits starve those who waited, while newcomers find room.
LONGEST_WAIT_S = 0.25
# A server that never answered may be starting, or not be there at all.
STRANGER_ATTEMPTS = 5
STRANGER_FIRST_WAIT_S, STRANGER_GROWTH = 0.1, 2.5
# With less time an attempt would only turn "no room" into "too slow".
SHORTEST_ATTEMPT_S = 0.05
# gRPC takes a deadline beyond its clock for one that has passed; nobody waits for years.
LONGEST_TIMEOUT_S = 1e8


@dataclass(frozen=True)
class Timeouts:
    """How long a client waits.

    Attributes:
        request_s: Seconds allowed for each request, its repetitions included.
        call_s: Seconds allowed for a whole call, None for no limit.

    Raises:
        ConfigurationError: They are zero, negative or not a number.
    """

    request_s: float
    call_s: float | None = None

    def __post_init__(self) -> None:
        for name, seconds in (("timeout_s", self.request_s), ("total_timeout_s", self.call_s)):
            if seconds is not None and not seconds > 0:
                raise ConfigurationError(f"{name} must be above 0 seconds. Received: {seconds}.")

    @property
    def longest_request_s(self) -> float:
        """The longest that a request can take, in s."""
        return self.request_s if self.call_s is None else min(self.request_s, self.call_s)

    def for_call(self) -> "Deadline":
        """Return the deadline of a call that begins now."""
        return Deadline.after(self.call_s)

    def for_request(self, until: "Deadline | None" = None) -> "Deadline":
        """Return the deadline of a request that begins now, within that of its call."""
        return Deadline.after(self.request_s) if until is None else until.sooner(self.request_s)


@dataclass(frozen=True)
class Deadline:
    """When a request must be answered, over all its attempts.

    Attributes:
        at: On the clock `time.monotonic`.
        allowed_s: Seconds that there were from its beginning.
    """

    at: float
    allowed_s: float

    @classmethod
    def after(cls, timeout_s: float | None) -> Self:
        """Return the deadline so many seconds from now, one that never comes for None."""
        allowed_s = LONGEST_TIMEOUT_S if timeout_s is None else min(timeout_s, LONGEST_TIMEOUT_S)
        return cls(time.monotonic() + allowed_s, allowed_s)

    def sooner(self, timeout_s: float) -> "Deadline":
        """Return this deadline, or the one so many seconds from now if that comes first."""
        other = Deadline.after(timeout_s)
        return self if self.at < other.at else other

    def left_s(self) -> float:
        """Return the seconds that are left, not below a millisecond, so that gRPC itself says what ran out."""
        return max(0.001, self.at - time.monotonic())


@dataclass
class Attempts:
    """What became of the attempts at one request.

    Attributes:
        deadline: The request's.
        patient: Whether to wait for a server that is away: it has answered before, so that it may be starting anew.
        failed: How many failed.
        refusal: The last time that the server had no room, or was away.
        on_overload: Called with the seconds of each wait for room on the server.
    """

    deadline: Deadline
    patient: bool = False
    failed: int = 0
    refusal: grpc.RpcError | None = None
    on_overload: Callable[[float], object] | None = None

    def pause_s(self, error: grpc.RpcError) -> float | None:
        """Take note of a failure; return how long to wait before the next attempt, None if there is to be none."""
        self.failed += 1
        if is_overloaded(error) or (self.patient and is_away(error)):
            pause_s = jitter_s(self.failed)
        elif error.code() is grpc.StatusCode.UNAVAILABLE and self.failed < STRANGER_ATTEMPTS:
            pause_s = STRANGER_FIRST_WAIT_S * STRANGER_GROWTH ** (self.failed - 1) * random.uniform(0.8, 1.2)
        else:
            return None
        self.refusal = error
        if time.monotonic() + pause_s + SHORTEST_ATTEMPT_S >= self.deadline.at:
            return None
        if self.on_overload is not None and is_overloaded(error):
            self.on_overload(pause_s)
        return pause_s

    def reason(self, error: grpc.RpcError) -> grpc.RpcError:
        """Return why the last error ended the request: the refusals before it, where it only says that time is up."""
        late = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        return self.refusal if late and self.refusal is not None else error


def is_overloaded(error: grpc.RpcError) -> bool:
    """Return whether the server said that it takes no more work right now."""
    text = _OVERLOAD.get(error.code())
    return text is not None and text in str(error.details() or "")


def is_away(error: grpc.RpcError) -> bool:
    """Return whether nobody answers at the address, or a server that stops has cancelled the request.

    A certificate that does not fit will not fit later either.
    """
    if error.code() is grpc.StatusCode.CANCELLED:
        return True
    return error.code() is grpc.StatusCode.UNAVAILABLE and not TLS_FAILED.search(str(error.details() or ""))


def jitter_s(attempt: int) -> float:
    """Return the seconds to wait before an attempt.

    Exponential, with full jitter: many callers that were refused together come back apart
    (aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter).

    Args:
        attempt: 1 for the first repetition.
    """
    longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(attempt, 10))
    return random.uniform(longest / 4, longest)


def pauses_s(within_s: float) -> Iterator[float]:
    """Yield pauses, ever longer up to a second, that add up to no more than so many seconds."""
    for attempt in count(1):
        pause_s = jitter_s(attempt) if attempt < 6 else random.uniform(0.25, 1.0)
        within_s -= pause_s
        if within_s < 0:
            return
        yield pause_s
