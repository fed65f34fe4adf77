"""Work that is written once, for blocking callers and for event loops.

A plan is a generator, which yields what is to be done, is given what comes of it, and ends with a result. What goes
wrong is raised where the plan stands, so that it can catch it.
"""

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Question:
    """Ask somebody who may be on an event loop: an answer that can be awaited is awaited."""

    ask: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Blocking:
    """Do something that takes a while in this process; an event loop gives it to a thread."""

    run: Callable[[], Any]


Plan = Generator[Question | Blocking, Any, T]


def carry_out(plan: Plan[T]) -> T:
    """Carry a plan out here and now, and return its result."""
    proceed: Any = plan.send
    given: Any = None
    while True:
        try:
            step = proceed(given)
        except StopIteration as done:
            result: T = done.value
            return result
        try:
            proceed, given = plan.send, step.ask() if isinstance(step, Question) else step.run()
        except Exception as error:
            proceed, given = plan.throw, error


async def carry_out_on_loop(plan: Plan[T], in_thread: Callable[[Callable[[], Any]], Awaitable[Any]]) -> T:
    """Carry a plan out on the event loop, and return its result.

    Args:
        plan: The plan.
        in_thread: Runs a function in a thread.
    """
    proceed: Any = plan.send
    given: Any = None
    try:
        while True:
            try:
                step = proceed(given)
            except StopIteration as done:
                result: T = done.value
                return result
            try:
                answer = step.ask() if isinstance(step, Question) else in_thread(step.run)
                proceed, given = plan.send, (await answer) if isawaitable(answer) else answer
            except Exception as error:
                proceed, given = plan.throw, error
    finally:
        plan.close()
