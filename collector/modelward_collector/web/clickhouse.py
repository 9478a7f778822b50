"""ClickHouse's HTTP interface, read-only, at ``POST /``: for Grafana's plugin, clickhouse-connect and whatever else speaks it.

Statements pass the same gate as all SQL of people. What clients ask of a server before anything else, and what the gate has no
business to allow, is answered here: name, version, time zone, settings, databases. Settings that a client sends have no effect.

Native data leaves the engine as protocol revision 0: no block header, no serialisation flags. clickhouse-go reads what
``revision()`` says from then on, so that answer is 0; the answer itself it reads in its own revision, which it sends along.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from modelward_collector.web.api import CONTENT, MAX_SQL_BYTES, TEXT
from modelward_collector.web.store import Store, StoreError

SERVER = {"displayName": "Modelward", "version": "26.9.1.1", "revision": 0, "timezone": "UTC"}
"""What the functions of this name say. ``version``: of the engine in the collector, so that clients write its dialect."""

_BLOCK_HEADER = b"\x01\x00\x02\xff\xff\xff\xff\x00"
"""Block information of protocol revisions above 0: no overflow, bucket -1."""

_SERIALISATION_FLAG_SINCE = 54454

_FUNCTION = r"(?:displayName|version|revision|timezone)\(\)"
_ABOUT_SERVER = re.compile(rf"SELECT ({_FUNCTION}(?: ?, ?{_FUNCTION})*)", re.IGNORECASE)
_SETTINGS = re.compile(r"SELECT name, value, readonly(?: as readonly)? FROM system\.settings(?: LIMIT \d+)?", re.IGNORECASE)
_TABLES = re.compile(r"SHOW TABLES FROM [\"`]?modelward[\"`]?", re.IGNORECASE)

_ERRORS = {
    "refused": (403, 497, "ACCESS_DENIED"),
    "syntax": (400, 62, "SYNTAX_ERROR"),
    "limit": (422, 396, "TOO_MANY_ROWS_OR_BYTES"),
    "unavailable": (503, 210, "NETWORK_ERROR"),
}
"""HTTP status, ClickHouse's number and its name for each kind of failure."""


async def ping(request: Request) -> Response:
    """``GET /ping``, as load balancers and clients ask it."""
    return Response("Ok.\n", media_type=TEXT)


async def answer(request: Request) -> Response:
    """``POST /``: one statement, in the body or in ``?query=``, with ``?param_NAME=`` for its parameters."""
    given = request.query_params
    if given.get("compress", "0") != "0" or given.get("decompress", "0") != "0" or "content-encoding" in request.headers:
        return _failed("ClickHouse's own compression is not offered here: choose gzip, or none.", "refused")
    if request.headers.get("content-type", "").startswith("multipart/"):
        return _failed("Files and external tables are not taken: send the query as the body.", "refused")
    if given.get("database", "") not in ("", "default", "modelward"):
        return _failed("There is one database, 'modelward'.", "refused")
    body = given.get("query", "").encode()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_SQL_BYTES:
            return _failed(f"The query is longer than {MAX_SQL_BYTES // 1024} KiB.", "limit")
    try:
        sql = body.decode("utf-8").strip().removesuffix(";").rstrip()
    except UnicodeDecodeError:
        return _failed("The query is not valid UTF-8.", "syntax")
    form = given.get("default_format") or request.headers.get("x-clickhouse-format") or "TabSeparated"
    plain, form = _without_format(sql, form)
    plain = " ".join(plain.split())
    if form == "Native" and (asked := _ABOUT_SERVER.fullmatch(plain)):
        return _result(_native(_named(asked[1]), _revision(given)), form)
    store: Store = request.app.state.store
    parameters = {name.removeprefix("param_"): value for name, value in given.items() if name.startswith("param_")}
    try:
        return _result(await store.ask(_ours(plain) or sql, form=form, parameters=parameters), form)
    except StoreError as e:
        return _failed(str(e), e.kind)


def _without_format(sql: str, form: str) -> tuple[str, str]:
    """A statement without its FORMAT clause, and the format. By words: a pattern would look at each of many spaces anew."""
    words = sql.rsplit(maxsplit=2)
    if len(words) == 3 and words[1].upper() == "FORMAT" and re.fullmatch(r"\w+", words[2]):
        return words[0], words[2]
    return sql, form


def _named(functions: str) -> list[str]:
    spelling = {name.lower(): name for name in SERVER}
    return [spelling[f.strip().removesuffix("()").lower()] for f in functions.split(",")]


def _ours(plain: str) -> str:
    """What is asked of the engine in place of a question about the server; '' for any other statement."""
    if asked := _ABOUT_SERVER.fullmatch(plain):
        values = ((name, SERVER[name]) for name in _named(asked[1]))
        return "SELECT " + ", ".join(f"{value!r} AS `{name}()`" for name, value in values)
    if _SETTINGS.fullmatch(plain):
        return "SELECT '' AS name, '' AS value, 0 AS readonly LIMIT 0"
    if plain.upper() == "SHOW DATABASES":
        return "SELECT 'modelward' AS name"
    return "SHOW TABLES" if _TABLES.fullmatch(plain) else ""


def _revision(given: Mapping[str, str]) -> int:
    text = given.get("client_protocol_version", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _native(names: list[str], revision: int) -> bytes:
    """One row of :data:`SERVER` in Native format, as a server writes it to a client of this revision."""
    data = bytearray(_BLOCK_HEADER if revision else b"")
    data += bytes((len(names), 1))
    for name in names:
        value = SERVER[name]
        data += _text(f"{name}()") + _text("UInt32" if isinstance(value, int) else "String")
        if revision >= _SERIALISATION_FLAG_SINCE:
            data.append(0)
        data += value.to_bytes(4, "little") if isinstance(value, int) else _text(str(value))
    return bytes(data)


def _text(value: str) -> bytes:
    return bytes((len(value),)) + value.encode("ascii")


def _result(data: bytes, form: str) -> Response:
    headers = {"cache-control": "no-store", "x-clickhouse-format": form, "x-clickhouse-timezone": "UTC",
               "x-clickhouse-server-display-name": str(SERVER["displayName"])}
    return Response(data, media_type=CONTENT.get(form, TEXT), headers=headers)


def _failed(sentence: str, kind: str) -> Response:
    status, code, name = _ERRORS.get(kind, _ERRORS["unavailable"])
    text = f"Code: {code}. DB::Exception: {sentence} ({name})\n"
    return Response(text, status, {"x-clickhouse-exception-code": str(code), "cache-control": "no-store"}, media_type=TEXT)
