"""What the service says of itself: the index, the caller's session, health, figures."""

import os
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from ae_search.contract import Index, IndexInfo
from ae_search.image_file import MAX_FILE_MIB
from ae_search.web.access_keys import COOKIE, SESSION_S, Role
from ae_search.web.answers import Health, IndexAnswer, Ready, SessionAnswer
from ae_search.web.finding import DEPTH, DEPTH_VIEWS
from ae_search.web.parameters import MAX_K, Login
from ae_search.web.problems import Problem
from ae_search.web.responses import Json
from ae_search.web.routes.shared import problems, role_of, service_of
from ae_search.web.service import Service

router = APIRouter(tags=["service"])


@router.get("/v1/index", response_model=IndexAnswer, responses=problems(), operation_id="get_index")
async def get_index(request: Request) -> Response:
    """Return figures of the index, and what can be asked of it."""
    service = service_of(request)
    calibrated = await service.calibration() is not None
    told = _told(service, await service.in_thread(_info, service.index), role_of(request), calibrated)
    told["features"] |= {"explain": await service.decodes(), "distrust": await service.usual() is not None}
    return Json(told)


@router.get("/v1/session", response_model=SessionAnswer, responses=problems(), operation_id="get_session")
async def get_session(request: Request) -> Response:
    """Return what the caller may do."""
    return Json(_session(service_of(request), role_of(request)))


@router.post("/v1/session", response_model=SessionAnswer, responses=problems(408, 413), operation_id="log_in")
async def log_in(request: Request, body: Login) -> Response:
    """Exchange a key for a cookie, for pages."""
    service = service_of(request)
    keys = service.options.doors.keys
    role = keys.of_key(body.key)
    if role is Role.NOBODY:
        raise Problem("LoginNeeded", "This key is none of this service's.")
    response = Json(_session(service, role))
    response.set_cookie(
        COOKIE,
        keys.session(role),
        max_age=SESSION_S,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response


@router.delete("/v1/session", status_code=204, responses=problems(), operation_id="log_out")
async def log_out() -> Response:
    """Take the cookie back."""
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response


@router.get("/healthz", response_model=Health, operation_id="healthz")
async def healthz() -> Response:
    """Say that the process runs."""
    return Json({"status": "ok"})


@router.get("/readyz", response_model=Ready, responses=problems(502), operation_id="readyz")
async def readyz(request: Request) -> Response:
    """Say whether model and index answer, and belong together."""
    model = await service_of(request).ready()
    told = {"name": model.name, "version": model.version, "fingerprint": model.fingerprint}
    return Json({"status": "ready", "model": told})


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **problems()},
    operation_id="metrics",
)
async def metrics(request: Request) -> Response:
    """Return figures for Prometheus."""
    service = service_of(request)
    text, headers = await service.in_thread(service.metrics.text)
    return Response(text, headers=dict(headers))


def _info(index: Index) -> IndexInfo:
    return index.info()


def _session(service: Service, role: Role) -> dict[str, bool]:
    keys = service.options.doors.keys
    return {
        "read": role >= Role.READER,
        "write": role >= Role.WRITER,
        "read_key": bool(keys.readers),
        "write_key": bool(keys.writers),
    }


def _told(service: Service, info: IndexInfo, role: Role, calibrated: bool) -> dict[str, Any]:
    options = service.options
    model = info.model
    is_local = options.doors.is_local
    return {
        "items": info.items,
        "latents": info.latents,
        "latent_dim": info.latent_dim,
        "metric": info.metric,
        "model": {"name": model.name, "version": model.version, "fingerprint": model.fingerprint},
        "image_shape": None if info.image_shape is None else list(info.image_shape),
        "engine": info.engine,
        "recall": info.recall,
        "generation": info.generation,
        "created": info.created,
        "calibrated": calibrated,
        "features": {
            "originals": calibrated,
            "views": True,
            "write": role >= Role.WRITER,
            "uploads": service.uploads is not None,
            "fold": True,
        },
        "limits": {
            "body_bytes": min(options.limits.body_bytes, MAX_FILE_MIB * 2**20),
            "k": MAX_K,
            "depth": DEPTH,
            "depth_views": DEPTH_VIEWS,
            "upload_s": options.uploads.kept_s,
        },
        # Folders and addresses are the business of whoever sits at this machine.
        "command": {
            "index": os.fspath(options.place) if is_local else None,
            "server": options.server if is_local else None,
            "model": options.model if is_local else None,
        },
    }
