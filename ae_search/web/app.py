"""The service as an ASGI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from ae_search.errors import AeSearchError
from ae_search.web.admission import Admission
from ae_search.web.document import document_of
from ae_search.web.gate import Gate
from ae_search.web.options import Doors, ServiceOptions
from ae_search.web.problems import OWN, Problem, problem_of
from ae_search.web.responses import problem_response
from ae_search.web.routes import about, changes, items, search
from ae_search.web.routes.page import page_router
from ae_search.web.routes.shared import malformed
from ae_search.web.service import Service

_OF_STATUS = {status: code for code, (status, _) in OWN.items() if code not in ("InternalError", "ShuttingDown")}
_DESCRIPTION = (
    "Reverse image search: the items of an index that are most similar to an image. Keys of items are parameters, "
    "never parts of a path. Errors are application/problem+json; programs decide by their `code`."
)


def create_app(options: ServiceOptions) -> Any:
    """Return the ASGI application of one process.

    Raises:
        ConfigurationError: There is no index.
    """
    service = Service(options)

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        await service.open()
        yield
        await service.close()

    app = FastAPI(
        title="ae-search",
        version=metadata.version("ae-search"),
        description=_DESCRIPTION,
        lifespan=running,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    for router in (search.router, items.router, changes.router, about.router, page_router()):
        app.include_router(router)
    _map_errors(app, options.place)
    app.openapi = lambda: document_of(app)  # type: ignore[method-assign]
    admitted = Admission(app, options.limits, service.metrics)
    return _with_origins(Gate(admitted, options.doors, service.metrics), options.doors)


def _map_errors(app: FastAPI, place: str) -> None:
    @app.exception_handler(Problem)
    async def of_problem(_: Request, problem: Problem) -> Response:
        return problem_response(problem)

    @app.exception_handler(AeSearchError)
    async def of_error(_: Request, error: AeSearchError) -> Response:
        return problem_response(problem_of(error, place))

    @app.exception_handler(Exception)
    async def of_mistake(_: Request, error: Exception) -> Response:
        return problem_response(Problem("InternalError"))  # the gate logs it

    @app.exception_handler(RequestValidationError)
    async def of_parameters(_: Request, error: RequestValidationError) -> Response:
        return problem_response(malformed(error.errors()))

    @app.exception_handler(HTTPException)
    async def of_framework(_: Request, error: HTTPException) -> Response:
        if isinstance(error.__cause__, Problem):  # FastAPI takes what ends the body for a malformed one
            return problem_response(error.__cause__)
        code = next((code for status, code in _OF_STATUS.items() if status == error.status_code), "BadRequest")
        return problem_response(Problem(code, None if code in ("NotFound", "MethodNotAllowed") else str(error.detail)))


def _with_origins(app: Any, doors: Doors) -> Any:
    if not doors.origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=doors.origins,
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=["authorization", "content-type"],
        expose_headers=["retry-after"],
    )
