"""Answers that are made without a framework: problems, where no route is reached, and JSON, where it is to be fast."""

import json
from typing import Any

from starlette.responses import Response

from ae_search.web.bodies import Send
from ae_search.web.problems import Problem


class Json(Response):
    """JSON as it is, without a look at a schema."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the text as UTF-8; half a surrogate pair becomes a question mark."""
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def problem_response(problem: Problem) -> Response:
    """Return a problem as a response."""
    return Response(problem.body(), int(problem.status), problem.headers())


async def send_problem(problem: Problem, send: Send) -> None:
    """Answer with a problem."""
    response = problem_response(problem)
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": False})
