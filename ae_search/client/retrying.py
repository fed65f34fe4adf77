"""When a request that failed is sent again, and how long to wait before."""

import random
import time
from dataclasses import dataclass
from typing import Self

import grpc

# A server that has no thread left, or whose batching queue is full, is alive and will take the request soon.
_OVERLOAD = {
    grpc.StatusCode.RESOURCE_EXHAUSTED: "Server Threadpool Exhausted",
    grpc.StatusCode.UNAVAILABLE: "batch scheduling queue",
}
FIRST_WAIT_S = 0.01
LONGEST_WAIT_S = 1.0


@dataclass(frozen=True)
class Deadline:
    """When a request must be answered, over all its attempts, on the clock `time.monotonic`."""

    at: float

    @classmethod
    def after(cls, timeout_s: float) -> Self:
        """Return the deadline so many seconds from now."""
        return cls(time.monotonic() + timeout_s)

    def sooner(self, timeout_s: float) -> "Deadline":
        """Return this deadline, or the one so many seconds from now if that comes first."""
        return Deadline(min(self.at, time.monotonic() + timeout_s))

    def left_s(self) -> float:
        """Return the seconds that are left, not below a millisecond, so that gRPC itself says what ran out."""
        return max(0.001, self.at - time.monotonic())


def is_overloaded(error: grpc.RpcError) -> bool:
    """Return whether the server said that it takes no more work right now; gRPC itself retries plain UNAVAILABLE."""
    text = _OVERLOAD.get(error.code())
    return text is not None and text in str(error.details() or "")


def wait_s(attempt: int, deadline: Deadline) -> float | None:
    """Return how long to wait before an attempt, None if its deadline would be over.

    Exponential, with full jitter: many callers that were refused together come back apart
    (aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter).

    Args:
        attempt: 1 for the first repetition.
        deadline: The request's.
    """
    longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(attempt, 10))
    chosen = random.uniform(longest / 4, longest)
    return chosen if time.monotonic() + chosen < deadline.at else None
