"""The web application: routes, and what runs beside them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from modelward_collector.settings import CollectorSettings, is_loopback, split_address
from modelward_collector.web import api, clickhouse, exceptions, workload_timeline
from modelward_collector.web.api import Health
from modelward_collector.web.auth import Guard, Login
from modelward_collector.web.explained import explain
from modelward_collector.web.history import history
from modelward_collector.web.listings import LISTINGS
from modelward_collector.web.live import Live
from modelward_collector.web.outputs_status import OutputsStatus, states
from modelward_collector.web.overview import Overview
from modelward_collector.web.rules_status import RulesStatus
from modelward_collector.web.store import Store
from modelward_collector.web.test_alert import TestAlerts

_PAGE = Path(__file__).parent / "page"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_ADDRESSES = {"index.html": "/", "login.html": "/login"}
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def build(settings: CollectorSettings, health: Health) -> Starlette:
    """The application for these settings. ``health`` tells which other parts of the collector are alive."""
    store = Store(settings.folder.store_target)
    rules = RulesStatus(settings.rules)
    overview = Overview(store, rules, settings)
    tests = TestAlerts(settings, store)
    live = Live(store, overview)
    token = settings.http_token_file.read_text(encoding="utf-8").strip() if settings.http_token_file else None

    @contextlib.asynccontextmanager
    async def running(app: Starlette) -> AsyncIterator[None]:
        store.open()
        tasks = [asyncio.create_task(live.run()), asyncio.create_task(rules.run())]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await store.close()

    app = Starlette(
        routes=[
            *(_file(path) for path in sorted(_PAGE.iterdir()) if path.suffix in _TYPES),
            Route("/login", Login(token, secure=settings.http_tls_cert is not None).answer, methods=["POST"]),
            *(Route(f"/api/v1/{name}", api.list_of(name)) for name in LISTINGS),
            Route("/api/v1/overview", api.overview),
            Route("/api/v1/outputs", OutputsStatus(settings, store).answer),
            Route("/api/v1/hosts/{host}/test-alert", tests.begin, methods=["POST"]),
            Route("/api/v1/hosts/{host}/test-alert/{id}", tests.follow),
            Route("/api/v1/detections/{id}/explain", explain),
            Route("/api/v1/exceptions", exceptions.make, methods=["POST"]),
            Route("/api/v1/exceptions/preview", exceptions.preview),
            Route("/api/v1/exceptions/{id}", exceptions.revoke, methods=["DELETE"]),
            Route("/api/v1/timeline", api.timeline),
            Route("/api/v1/workload-timeline", workload_timeline.answer),
            Route("/api/v1/severities", api.severities),
            Route("/api/v1/history", history),
            Route("/api/v1/fields", api.fields),
            Route("/api/v1/rules", api.rules),
            Route("/api/v1/query", api.query, methods=["POST"]),
            Route("/api/v1/tail", live.stream),
            Route("/", clickhouse.answer, methods=["POST"]),
            Route("/ping", clickhouse.ping),
            Route("/healthz", api.health),
            Route("/metrics", api.metrics),
        ],
        middleware=[
            Middleware(Guard, token=token, hosts=host_names(settings)),
            Middleware(GZipMiddleware, minimum_size=2000, compresslevel=4),
        ],
        exception_handlers={HTTPException: _refused, Exception: _broken},
        lifespan=running,
    )
    app.state.store = store
    app.state.rules = rules
    app.state.overview = overview
    app.state.live = live
    app.state.health = health
    app.state.outputs = lambda: states(settings)
    return app


def host_names(settings: CollectorSettings) -> frozenset[str] | None:
    """Names that a Host header may have: on loopback those of loopback; elsewhere any, as there a token is
    needed.
    """
    host, _ = split_address(settings.http, "--http")
    return _LOOPBACK_NAMES | {host.lower()} if is_loopback(host) else None


def _file(path: Path) -> Route:
    """A file of the page, held in memory; browsers ask each time whether it changed."""
    content = path.read_bytes()
    etag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
    headers = {"etag": etag, "cache-control": "no-cache"}

    async def answer(request: Request) -> Response:
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=_TYPES[path.suffix], headers=headers)

    return Route(_ADDRESSES.get(path.name, f"/{path.name}"), answer)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    sentences = {404: "There is nothing at this address.", 405: "This address does not take that method."}
    return api.problem(sentences.get(error.status_code, error.detail), error.status_code)


async def _broken(request: Request, error: Exception) -> Response:
    return api.problem("The collector failed on this request; its log says more.", 500)
