"""Who may talk to the web process: tokens, sessions, and pages of other sites in an operator's browser."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from modelward_collector.settings import CollectorSettings
from modelward_collector.web.app import host_names
from modelward_collector.web.auth import COOKIE, Guard, Login, session
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

TOKEN = "correct horse battery"


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


def site(token: str | None, hosts: frozenset[str] | None, *, secure: bool = False) -> Starlette:
    routes = [
        Route("/", hello),
        Route("/login", hello),
        Route("/healthz", hello),
        Route("/metrics", hello),
        Route("/api/v1/query", hello, methods=["GET", "POST"]),
        Route("/login", Login(token, secure=secure).answer, methods=["POST"]),
    ]
    return Starlette(routes=routes, middleware=[Middleware(Guard, token=token, hosts=hosts)])


def ask(app: Starlette, work: Callable[[httpx.AsyncClient], Any], base: str = "http://127.0.0.1:4461") -> httpx.Response:
    async def run() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base) as client:
            answer: httpx.Response = await work(client)
            return answer

    return asyncio.run(run())


LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:4461", "", "[::2]:4461"])
def test_a_rebound_name_is_not_answered_on_loopback(host: str) -> None:
    answer = ask(site(None, LOOPBACK), lambda c: c.get("/", headers={"host": host}))
    assert answer.status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1:4461", "localhost:9", "LOCALHOST", "[::1]:4461"])
def test_names_of_this_machine_are_answered(host: str) -> None:
    assert ask(site(None, LOOPBACK), lambda c: c.get("/", headers={"host": host})).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:8000"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
    ],
)
def test_another_sites_page_cannot_send_a_query(headers: dict[str, str]) -> None:
    answer = ask(site(None, LOOPBACK), lambda c: c.post("/api/v1/query", content="SELECT 1", headers=headers))
    assert answer.status_code == 403


def test_a_link_from_another_site_opens_the_page() -> None:
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert ask(site(None, LOOPBACK), lambda c: c.get("/", headers=headers)).status_code == 200


def test_without_the_token_nothing_but_health_and_login_is_answered() -> None:
    app = site(TOKEN, None)
    assert ask(app, lambda c: c.get("/api/v1/query")).status_code == 401
    assert ask(app, lambda c: c.get("/metrics")).status_code == 401
    assert ask(app, lambda c: c.get("/healthz")).status_code == 200
    assert ask(app, lambda c: c.get("/login")).status_code == 200


def test_the_page_without_a_token_leads_to_the_login() -> None:
    answer = ask(site(TOKEN, None), lambda c: c.get("/"))
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")


@pytest.mark.parametrize("given", ["", "wrong", TOKEN[:-1], TOKEN + "x", "Bearer", "ü", session(TOKEN)])
def test_a_wrong_token_is_refused(given: str) -> None:
    headers = {"authorization": f"Bearer {given}".encode()}
    assert ask(site(TOKEN, None), lambda c: c.get("/metrics", headers=headers)).status_code == 401


def test_the_right_token_is_let_through() -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}
    assert ask(site(TOKEN, None), lambda c: c.get("/metrics", headers=headers)).status_code == 200


def test_a_login_gives_a_cookie_that_scripts_cannot_read_and_that_holds_no_token() -> None:
    answer = ask(site(TOKEN, None, secure=True), lambda c: c.post("/login", data={"token": TOKEN}))
    cookie = answer.headers["set-cookie"]
    assert answer.headers["location"] == "/"
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Secure" in cookie
    assert TOKEN not in cookie
    assert ask(site(TOKEN, None), lambda c: c.get("/", headers={"cookie": f"{COOKIE}={session(TOKEN)}"})).text == "hello"


def test_a_session_ends_when_the_token_changes() -> None:
    answer = ask(site("another", None), lambda c: c.get("/metrics", headers={"cookie": f"{COOKIE}={session(TOKEN)}"}))
    assert answer.status_code == 401


def test_a_wrong_login_gives_no_cookie() -> None:
    answer = ask(site(TOKEN, None), lambda c: c.post("/login", data={"token": "wrong"}))
    assert "set-cookie" not in answer.headers
    assert answer.headers["location"] == "/login?wrong"


def test_any_host_name_is_answered_only_off_loopback(tmp_path: Any) -> None:
    assert host_names(CollectorSettings(data=tmp_path, http="127.0.0.1:4461")) == LOOPBACK
    assert host_names(CollectorSettings(data=tmp_path, http="10.0.0.5:4461")) is None
