"""The steps of a conversation: what it asks of the client that carries it out."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ae_search.client.requests import Request


@dataclass(slots=True)
class Send:
    """Put a request on its way."""

    request: Request


@dataclass(slots=True)
class Ask:
    """Put a request on its way and give what became of it; none other is under way."""

    request: Request


@dataclass(slots=True)
class AskEach:
    """Ask each address of the target by itself; give what became of each, nothing where there is only one."""

    request: Request


@dataclass(slots=True)
class Pause:
    """Wait so many seconds, as far as the call has time left."""

    seconds: float


@dataclass(slots=True)
class Work:
    """Do what takes a while, away from an event loop, and give what it returns."""

    run: Callable[[], Any]


class Step(Enum):
    """The other steps of a conversation."""

    TAKE = "give what became of the oldest request under way"
    DROP = "forget the requests under way"


Answered = Ask | AskEach | Pause | Work
Conversation = Generator[Send | Answered | Step, Any, Any]
