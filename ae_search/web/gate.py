"""The gate: who may come in, under which name, from which page; and the headers that every answer carries."""

import http.cookies
import logging
import time
from typing import Any
from urllib.parse import urlsplit

from ae_search.web.access_keys import COOKIE, Role
from ae_search.web.bodies import Message, Receive, Send, linger
from ae_search.web.metrics import Metrics
from ae_search.web.options import Doors
from ae_search.web.problems import Problem
from ae_search.web.responses import send_problem

log = logging.getLogger(__name__)

Scope = dict[str, Any]

SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        b"font-src 'self'; manifest-src 'self'; media-src 'self' blob:; base-uri 'none'; form-action 'self'; "
        b"frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), geolocation=(), microphone=()"),
)
_USUAL = (*SECURITY_HEADERS, (b"cache-control", b"no-store"))
_READING = ("GET", "HEAD", "OPTIONS")
_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
# POST that changes nothing but what is kept for a while.
_ASKING = ("/v1/search", "/v1/uploads", "/v1/explain")
_FOR_ALL = ("/v1/session",)
_FOR_READERS = ("/v1/", "/metrics", "/openapi.json")


class Gate:
    """Checks the head of a request, before anything of its body is read."""

    def __init__(self, app: Any, doors: Doors, metrics: Metrics) -> None:
        """Take the application, whom it lets in, and what counts."""
        self._app, self._doors, self._metrics = app, doors, metrics
        self._names = doors.answered_names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, exchange = time.perf_counter(), _Exchange(scope, receive, send)
        self._metrics.begin()
        try:
            scope.setdefault("state", {})["role"] = self._checked(scope)
            await self._app(scope, exchange.receive, exchange.send)
        except Problem as problem:
            await send_problem(problem, exchange.send)
        except Exception:
            if exchange.status and not exchange.is_over:
                raise  # the server cuts the connection
            log.exception("a request failed")
            if not exchange.is_over:
                await send_problem(Problem("InternalError"), exchange.send)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.end(route, method, exchange.status, time.perf_counter() - began)

    def _checked(self, scope: Scope) -> Role:
        """Return what the caller may do.

        Raises:
            Problem: It must not do what it asks for.
        """
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self._check_host(headers.get("host", ""))
        self._check_site(scope["method"], scope["path"], headers)
        role, needed = self._role(headers), needed_role(scope["method"], scope["path"])
        if role < needed:
            self._metrics.refused("key")
            raise self._denied(needed, role, headers)
        return role

    def _denied(self, needed: Role, role: Role, headers: dict[str, str]) -> Problem:
        if needed is Role.WRITER and not self._doors.keys.writers:
            told = "This service only reads: it was started without --write-key-file."
            return Problem("Forbidden", told)
        if "authorization" not in headers and COOKIE not in headers.get("cookie", ""):
            return Problem("LoginNeeded")
        if role is Role.NOBODY:
            told = "This key is none of this service's, or its session has ended."
            return Problem("LoginNeeded", told)
        return Problem("Forbidden", "This key reads; a write key changes the index.")

    def _check_host(self, host: str) -> None:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if self._names is not None and name.lower() not in self._names:
            self._metrics.refused("host")
            raise Problem("WrongHost")

    def _check_site(self, method: str, path: str, headers: dict[str, str]) -> None:
        """Refuse what pages of other sites let a browser send: it would send the cookie, or reach this machine."""
        origin = headers.get("origin")
        if origin is not None and origin in self._doors.origins:
            return
        is_foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site") and path.startswith(_FOR_READERS)
        if origin is not None and method not in ("GET", "HEAD"):
            is_foreign |= urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
        if is_foreign:
            self._metrics.refused("site")
            raise Problem("Forbidden", "This request comes from a page of another site.")

    def _role(self, headers: dict[str, str]) -> Role:
        keys = self._doors.keys
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return keys.of_key(key.strip())
        return max(keys.anybody, self._role_of_cookie(headers.get("cookie", "")))

    def _role_of_cookie(self, text: str) -> Role:
        cookies: http.cookies.SimpleCookie = http.cookies.SimpleCookie()
        try:
            cookies.load(text)
            return self._doors.keys.of_session(cookies[COOKIE].value) if COOKIE in cookies else Role.NOBODY
        except (http.cookies.CookieError, ValueError):
            return Role.NOBODY


def needed_role(method: str, path: str) -> Role:
    """Return what a caller must be allowed to do for a request; what is new and changes something needs a write key."""
    if path in _FOR_ALL or not path.startswith(_FOR_READERS):
        return Role.NOBODY
    return Role.READER if method in _READING or path in _ASKING else Role.WRITER


class _Exchange:
    """One request and its answer: adds the headers, and lets an answer arrive although a body is left unread."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        told = dict(scope["headers"])
        self._is_read = b"transfer-encoding" not in told and told.get(b"content-length", b"0") == b"0"
        self._lingers = self.is_over = False
        self.status = 0

    async def receive(self) -> Message:
        message = await self._receive()
        self._is_read = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message["headers"])
            there = {name for name, _ in headers}
            headers += [(name, value) for name, value in _USUAL if name not in there]
            if not self._is_read:
                self._lingers = True
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        elif self._lingers and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await linger(self.receive)
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)
        self.is_over = message["type"] == "http.response.body" and not message.get("more_body", False)
