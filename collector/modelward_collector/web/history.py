"""``GET /api/v1/history``: stored events in pages of Arrow, for rules that are tried on what has happened.

The order is that of the table, so that a page goes on exactly where the one before ended (``after``), whatever was stored
meanwhile. Fields may be narrowed to some of their values when they are closed: ``is.event_name=exec,fork``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from modelward_proto.fields import BY_COLUMN
from starlette.requests import Request
from starlette.responses import Response

from modelward_collector.web.api import bad, failed
from modelward_collector.web.filters import BadFilter, Query, by_time, equal, one_of, whole
from modelward_collector.web.store import Store, StoreError

PAGE = 50_000
"""Rows of a page at most."""

NAME = ("host_name", "time", "agent_id", "epoch", "batch", "row")
"""The order, and what ``after`` holds: the last row of the page before."""

_AFTER = """(host_name > {after_host:String} OR (host_name = {after_host:String} AND time >= {after_time:DateTime64(9, 'UTC')}))
AND (host_name, time, agent_id, epoch, batch, row) > ({after_host:String}, {after_time:DateTime64(9, 'UTC')},
    {after_agent:String}, {after_epoch:String}, {after_batch:UInt64}, {after_row:UInt32})"""
_PLAIN = {"since": by_time("time", "since", ">="), "until": by_time("time", "until", "<"), "host": equal("host_name", "host")}


async def history(request: Request) -> Response:
    """``?columns=a,b&since=7d&until=&host=&limit=&after=&is.COLUMN=value,value``: an Arrow stream."""
    store: Store = request.app.state.store
    try:
        sql, parameters, limit = page(dict(request.query_params))
        data = await store.arrow(sql, parameters, max_rows=limit)
    except BadFilter as e:
        return bad(e)
    except StoreError as e:
        return failed(e)
    return Response(data, media_type="application/vnd.apache.arrow.stream", headers={"cache-control": "no-store"})


def page(given: Mapping[str, str]) -> tuple[str, dict[str, str], int]:
    """SQL, parameters and limit of one page.

    Raises:
        BadFilter: a parameter is unknown or has a bad value.
    """
    filters = dict(given)
    limit = whole("limit", filters.pop("limit", str(PAGE)), PAGE)
    columns = [column for column in filters.pop("columns", "").split(",") if column]
    for column in columns:
        if column not in BY_COLUMN:
            raise BadFilter(f"columns: there is no column '{column[:60]}'")
    query = Query()
    if after := filters.pop("after", ""):
        _after(query, after)
    for key, value in filters.items():
        if key in _PLAIN:
            _PLAIN[key](query, value)
        elif (field := BY_COLUMN.get(key.removeprefix("is."))) is not None and key.startswith("is.") and field.type == "closed":
            one_of(field.column, key, field.values)(query, value)
        else:
            raise BadFilter(f"'{key[:40]}' is no filter of history")
    shown = ", ".join(dict.fromkeys([*NAME, *columns]))
    return query.sql(f"SELECT {shown} FROM events_raw", ", ".join(NAME), limit), query.parameters, limit


def _after(query: Query, text: str) -> None:
    try:
        host, time, agent, epoch, batch, row = json.loads(text)
        query.where(_AFTER, after_host=str(host), after_time=_decimal(int(time)), after_agent=str(agent), after_epoch=str(epoch),
                    after_batch=int(batch), after_row=int(row))
    except (ValueError, TypeError, OverflowError) as e:
        raise BadFilter("after: [host, nanoseconds, agent, epoch, batch, row] of the last row is wanted") from e


def _decimal(nanoseconds: int) -> str:
    return f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09d}"
