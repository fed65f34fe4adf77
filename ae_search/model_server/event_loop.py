"""An event loop on a thread of its own."""

import asyncio
import logging
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from ae_search.model_server.failures import unforeseen

log = logging.getLogger(__name__)

# What is left of answered requests needs an iteration or two of the loop.
MOMENT_S = 1.0

T = TypeVar("T")


class EventLoopThread:
    """Runs coroutines for callers that have no event loop, or another one."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_log)
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return what a coroutine returns, or raise what it raises."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def close(self) -> None:
        """End the thread; what is still running in the loop is given a moment to end, then cancelled."""
        self.run(_end_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _log(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Note what went wrong in a task that nobody looks at; by itself, asyncio writes a traceback each time."""
    unforeseen(log, context["message"], context.get("exception") or RuntimeError("no exception"))


async def _end_others() -> None:
    """End all other tasks: one that is dropped with its loop writes a traceback."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        _, late = await asyncio.wait(others, timeout=MOMENT_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
