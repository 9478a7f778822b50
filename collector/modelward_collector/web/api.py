"""The HTTP API: lists with filters, people's SQL, the field table, rules, health and metrics."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from modelward_proto.fields import STORED
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest, multiprocess
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from modelward_collector.web import queries
from modelward_collector.web.filters import BadFilter
from modelward_collector.web.queries import listing
from modelward_collector.web.store import Rows, Store, StoreError

Health = Callable[[], Awaitable[Mapping[str, bool]]]
"""Asks other parts of the collector whether they are there."""

MAX_SQL_BYTES = 65_536
MAX_QUERY_ROWS = 10_000

_STATUS = {"refused": 403, "syntax": 400, "limit": 422, "unavailable": 503}
CONTENT = {
    "JSON": "application/json",
    "JSONCompact": "application/json",
    "JSONEachRow": "application/x-ndjson",
    "CSV": "text/csv; charset=utf-8",
    "CSVWithNames": "text/csv; charset=utf-8",
    "ArrowStream": "application/vnd.apache.arrow.stream",
    "Parquet": "application/vnd.apache.parquet",
    "Native": "application/octet-stream",
}
TEXT = "text/plain; charset=utf-8"


def problem(sentence: str, status: int) -> Response:
    """An error, as every endpoint tells it."""
    return JSONResponse({"error": sentence}, status)


def failed(error: StoreError) -> Response:
    """The answer to a request whose query gave no rows."""
    return problem(str(error), _STATUS.get(error.kind, 500))


def bad(error: BadFilter) -> Response:
    """The answer to a request with a filter that cannot be right."""
    sentence = str(error)
    # The name of a filter stays as it is written.
    first = sentence[0] if ":" in sentence.partition(" ")[0] else sentence[0].upper()
    return problem(f"{first}{sentence[1:]}.", 400)


def as_json(rows: Rows, **more: Any) -> Response:
    """``{"columns": [...], "rows": [{...}]}``."""
    return Response(
        json.dumps({"columns": rows.columns, "rows": rows.rows, **more}, ensure_ascii=False, separators=(",", ":")),
        media_type="application/json",
        headers={"cache-control": "no-store"},
    )


def list_of(name: str) -> Callable[[Request], Awaitable[Response]]:
    """``GET /api/v1/NAME`` for one of :data:`~modelward_collector.web.listings.LISTINGS`, with its filters."""

    async def answer(request: Request) -> Response:
        store: Store = request.app.state.store
        try:
            for given in queries.steps(name, dict(request.query_params)):
                sql, parameters, limit = listing(name, given)
                rows = await store.select(sql, parameters, max_rows=limit)
                if len(rows.rows) >= limit:
                    break
        except BadFilter as e:
            return bad(e)
        except StoreError as e:
            return failed(e)
        return as_json(rows, complete=len(rows.rows) < limit)

    return answer


async def query(request: Request) -> Response:
    """``POST /api/v1/query``: a person's SQL in the body.

    The answer is ``{"columns", "rows"}``, or with ``?format=`` what the engine writes in that format.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_SQL_BYTES:
            return problem(f"The query is longer than {MAX_SQL_BYTES // 1024} KiB.", 413)
    try:
        sql = body.decode("utf-8")
    except UnicodeDecodeError:
        return problem("The query is not valid UTF-8.", 400)
    form = request.query_params.get("format", "")
    if form and not form.isalnum():
        return problem("The format's name has letters and digits only.", 400)
    store: Store = request.app.state.store
    try:
        if form:
            data = await store.ask(sql, form=form)
            return Response(data, media_type=CONTENT.get(form, TEXT), headers={"cache-control": "no-store"})
        data = await store.ask(sql)
    except StoreError as e:
        return failed(e)
    try:
        document = json.loads(data or b'{"meta":[],"data":[]}')
        rows = Rows([column["name"] for column in document["meta"]], document["data"])
    except (ValueError, KeyError, TypeError):
        # The query had a FORMAT clause of its own, which wins: hand out what it made.
        return Response(data, media_type=TEXT, headers={"cache-control": "no-store"})
    return as_json(rows, complete=len(rows.rows) < MAX_QUERY_ROWS)


async def fields(request: Request) -> Response:
    """``GET /api/v1/fields``: the one table of fields."""
    rows: list[dict[str, Any]] = [
        {
            "name": f.name,
            "column": f.column,
            "type": f.type,
            "clickhouse": f.clickhouse,
            "by": f.by,
            "doc": f.doc,
            "example": str(f.example),
            "values": list(f.values),
        }
        for f in STORED
    ]
    return as_json(Rows(list(rows[0]), rows))


async def rules(request: Request) -> Response:
    """``GET /api/v1/rules``: the rules in force, and what is wrong with rule files."""
    found, problems = request.app.state.rules.now()
    return as_json(Rows(list(found[0]) if found else [], found), problems=problems)


async def overview(request: Request) -> Response:
    """``GET /api/v1/overview``: what the page shows beside the list."""
    try:
        found = await request.app.state.overview.now()
    except StoreError as e:
        return failed(e)
    return JSONResponse(found, headers={"cache-control": "no-store"})


async def timeline(request: Request) -> Response:
    """``GET /api/v1/timeline?since=&bins=``, and the filters of detections: their number in equal spans of time."""
    store: Store = request.app.state.store
    try:
        sql, parameters, start, step, bins = queries.timeline(dict(request.query_params))
        rows = await store.select(sql, parameters)
    except BadFilter as e:
        return bad(e)
    except StoreError as e:
        return failed(e)
    return as_json(rows, start_ms=start // 10**6, step_ms=step / 1e6, bins=bins)


async def severities(request: Request) -> Response:
    """``GET /api/v1/severities``, and the filters of incidents: their number by severity."""
    store: Store = request.app.state.store
    try:
        rows = await store.select(*queries.severities(dict(request.query_params)))
    except BadFilter as e:
        return bad(e)
    except StoreError as e:
        return failed(e)
    return as_json(rows)


async def health(request: Request) -> Response:
    """``GET /healthz``: 200 when the store answers and the supervisor reports all receivers running, else
    503. An output that fails is named and changes nothing of that: a restart of the collector would not mend its receiver.
    """
    parts = {"store": await request.app.state.store.alive()}
    parts.update(await request.app.state.health())
    good = all(parts.values())
    outputs = {state["output"]: not state["problem"] for state in await request.app.state.outputs()}
    return JSONResponse({"ok": good, "parts": parts, "outputs": outputs}, 200 if good else 503, {"cache-control": "no-store"})


async def metrics(request: Request) -> Response:
    """``GET /metrics``: of all processes of the collector (prometheus_client's multiprocess mode)."""
    registry = CollectorRegistry()
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder and os.path.isdir(folder):
        multiprocess.MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
