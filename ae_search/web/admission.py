"""How many requests are under way, how much they hold, and for how long."""

import asyncio
import logging
from typing import Any

from ae_search.web.bodies import Body, Held, Message, Receive, Send
from ae_search.web.metrics import Metrics
from ae_search.web.options import Limits
from ae_search.web.problems import Problem
from ae_search.web.responses import send_problem

log = logging.getLogger(__name__)

Scope = dict[str, Any]
# What answers at once and must answer when the service is busy as well.
_ALWAYS = ("/healthz", "/readyz", "/metrics", "/v1/session")
_SMALL_BODIES = {"/v1/session": 4096, "/v1/explain": 4 * 2**20}
_WITH_BODY = ("POST", "PUT", "PATCH")


class Admission:
    """Lets so many requests in, each with a deadline, and tells the others to come again."""

    def __init__(self, app: Any, limits: Limits, metrics: Metrics) -> None:
        """Take the application, what it may take, and what counts."""
        self._app, self._limits, self._metrics = app, limits, metrics
        self._held = Held(limits.held_bytes)
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_free = scope["path"] in _ALWAYS or not scope["path"].startswith("/v1/")
        if not is_free and self._under_way >= self._limits.requests:
            self._metrics.refused("busy")
            await send_problem(Problem("Busy"), send)
            return
        self._under_way += not is_free
        try:
            await self._answer(scope, receive, send)
        finally:
            self._under_way -= not is_free

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        limits, loop = self._limits, asyncio.get_running_loop()
        most = _SMALL_BODIES.get(scope["path"], limits.body_bytes)
        has_body = scope["method"] in _WITH_BODY
        within = asyncio.timeout(limits.body_s if has_body else limits.deadline_s)
        body = Body(receive, most, self._held, lambda: within.reschedule(loop.time() + limits.deadline_s))
        begun = False

        async def sent(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            async with within:
                body.announce(_length(scope))
                await self._app(scope, body.receive if has_body else receive, sent)
        except (Problem, TimeoutError) as error:
            if begun:
                raise  # the server cuts the connection
            problem = error if isinstance(error, Problem) else self._late(body.is_complete or not has_body)
            await send_problem(problem, send)
        finally:
            body.close()

    def _late(self, is_complete: bool) -> Problem:
        self._metrics.refused("deadline" if is_complete else "slow")
        if is_complete:
            return Problem("DeadlineExceeded")
        return Problem("SlowRequest", f"A body has {self._limits.body_s:g} s to arrive.")


def _length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and len(value) < 20:
            return int(value)
    return 0
