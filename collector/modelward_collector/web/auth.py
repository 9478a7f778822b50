"""Who may talk to the web process: a middleware in front of everything. Whoever it lets through may see all.

Without a token (allowed on loopback only, see settings) the danger is a web page that the operator visits:
the ``Host`` header must name this machine, against DNS rebinding, and nothing that a browser marks as
coming from another site is answered. With a token, programs send ``Authorization: Bearer``; a browser gets
a cookie that holds a keyed hash of it.

Who may see may not always change something: without a token any account of this machine can connect, a model server's too, and
could silence what tells of it. So a request that changes something must then come from root or from the collector's own user.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request, cookie_parser
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelward_collector.ingest.neighbours import may_speak
from modelward_collector.settings import is_loopback

COOKIE = "modelward_session"
_OPEN = frozenset({"/healthz", "/login", "/login.js", "/style.css", "/icon.svg"})
_SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # With no-referrer a browser sends "Origin: null" along with our own login form.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


class Guard:
    """ASGI middleware: host check, cross-site check, token check, and security headers on every answer."""

    def __init__(self, app: ASGIApp, *, token: str | None, hosts: frozenset[str] | None) -> None:
        """``hosts``: the names that a Host header may have; None when any may."""
        self._app = app
        self._token = token
        self._hosts = hosts
        self._session = session(token) if token else ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _SECURITY_HEADERS.items():
                    headers[name] = value
            await send(message)

        refusal = self._refusal(scope)
        if refusal is None and changes(scope):
            refusal = await self._may_not_change(scope)
        await (refusal or self._app)(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if self._hosts is not None and host_name(headers.get("host", "")) not in self._hosts:
            return JSONResponse({"error": "This address is not one that the collector answers to."}, 421)
        top = headers.get("sec-fetch-mode") == "navigate" and scope["method"] == "GET"
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not top:
            return JSONResponse({"error": "Requests from other sites are not answered."}, 403)
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != headers.get("host", ""):
            return JSONResponse({"error": "Requests from other sites are not answered."}, 403)
        path = scope["path"]
        if not self._token or path in _OPEN or self._known(headers):
            return None
        if path == "/" and scope["method"] == "GET":
            return RedirectResponse("/login", 303)
        return JSONResponse(
            {"error": "A token is needed: send 'Authorization: Bearer TOKEN', or log in on the page."},
            401,
            {"www-authenticate": "Bearer"},
        )

    async def _may_not_change(self, scope: Scope) -> Response | None:
        kind = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
        # A form of another site can send no JSON without asking first.
        if scope["method"] != "DELETE" and kind != "application/json":
            return JSONResponse({"error": "JSON is wanted: content-type: application/json."}, 415)
        trusted: bool = bool(self._token) or await asyncio.to_thread(_by_operator, scope)
        if trusted:
            return None
        sentence = (
            "Without a token only root and the collector's own user may change something: start the collector with "
            "--http-token-file, or ask as root on its machine."
        )
        return JSONResponse({"error": sentence}, 403)

    def _known(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._token and same(given.strip(), self._token):
            return True
        if self._token and same(_password(scheme, given, headers), self._token):
            return True
        cookies = cookie_parser(headers.get("cookie", ""))
        return same(cookies.get(COOKIE, ""), self._session)


def changes(scope: Scope) -> bool:
    """Whether a request is for something else than to read."""
    reads = scope["method"] in ("GET", "HEAD") or scope["path"] == "/api/v1/query"
    return scope["path"].startswith("/api/") and not reads


def _by_operator(scope: Scope) -> bool:
    """Whether root or our own user holds the other end of this connection over loopback."""
    client, server = scope.get("client"), scope.get("server")
    if not client or not server or not is_loopback(str(client[0])):
        return False
    return may_speak(str(client[0]), int(client[1]), int(server[1]))


def _password(scheme: str, given: str, headers: Headers) -> str:
    """The token as ClickHouse's clients send it: as the password of any user. Never in the address, which is logged."""
    if scheme.lower() != "basic":
        return headers.get("x-clickhouse-key", "")
    try:
        return base64.b64decode(given, validate=True).decode("utf-8", "replace").partition(":")[2]
    except ValueError:
        return ""


class Login:
    """``POST /login`` with the token in a form gives the browser its cookie."""

    def __init__(self, token: str | None, *, secure: bool) -> None:
        self._token = token
        self._secure = secure

    async def answer(self, request: Request) -> Response:
        """The endpoint."""
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > 4096:
                return RedirectResponse("/login?wrong", 303)
        given = parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0].strip()
        if self._token and not same(given, self._token):
            return RedirectResponse("/login?wrong", 303)
        answer = RedirectResponse("/", 303)
        if self._token:
            answer.set_cookie(
                COOKIE,
                session(self._token),
                max_age=12 * 3600,
                path="/",
                httponly=True,
                secure=self._secure,
                samesite="strict",
            )
        return answer


def session(token: str) -> str:
    """What the cookie holds: made from the token, so that a new token ends all sessions; the token is not
    in it.
    """
    return hmac.new(token.encode(), b"modelward web session 1", hashlib.sha256).hexdigest()


def same(given: str, wanted: str) -> bool:
    """Comparison in constant time."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def host_name(host: str) -> str:
    """The name in a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()
