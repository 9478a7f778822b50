"""Queries: each bounded in memory, threads, rows and time, a few at a time, so that inserts never starve."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from modelward_proto.v1.store_pb2 import SelectReply, SelectRequest

from modelward_collector.store import gate, refusal
from modelward_collector.store.engine import DATABASE, READ_LIMITS, EngineError, Lane, execute

if TYPE_CHECKING:
    from chdb.state.sqlitelike import Connection

_log = logging.getLogger(__name__)

TRUSTED_LANES = 2
ASK_LANES = 1
WAITING = 64
"""Queries that may wait for a lane; more are refused, so that a page reloaded in a loop cannot pile up work."""

MAX_ROWS = 100_000
MAX_BYTES = 48 << 20

_LIMIT_CODES = frozenset({158, 159, 160, 241, 307, 394, 396})
"""Too many rows or bytes, too slow, too much memory."""


class Queries:
    """Lanes for trusted queries and for people's."""

    def __init__(self, path: Path) -> None:
        self._path = path
        settings = dict(READ_LIMITS) | {
            "max_result_bytes": MAX_BYTES, "result_overflow_mode": "throw", "output_format_json_quote_64bit_integers": 1}
        self._trusted = _Pool([Lane(f"select-{i}", path, settings) for i in range(TRUSTED_LANES)])
        self._asking = _Pool([Lane(f"ask-{i}", path) for i in range(ASK_LANES)])

    async def select(self, request: SelectRequest) -> SelectReply:
        """Trusted SQL of ours: views are found without their database's name."""
        def work(connection: Connection) -> SelectReply:
            execute(connection, f"USE {DATABASE}")
            execute(connection, f"SET max_result_rows = {request.max_rows or MAX_ROWS}")
            return _answer(connection, request)

        return await self._trusted.run(work)

    async def ask(self, request: SelectRequest) -> SelectReply:
        """A person's SQL: through the gate, on a fresh connection that is locked first."""
        from chdb.state.sqlitelike import Connection

        def work(_: Connection) -> SelectReply:
            format = request.format or "JSON"
            if format not in gate.FORMATS:
                offered = ", ".join(sorted(gate.FORMATS))
                return SelectReply(error=f"The format {format[:40]!r} is not offered; there are {offered}.", kind="refused")
            fresh = Connection(f"file:{self._path}")
            try:
                execute(fresh, f"USE {DATABASE}")
                gate.lock(fresh, max_rows=request.max_rows or gate.MAX_ROWS)
                gate.admit(fresh, request.sql, request.parameters)
                return SelectReply(data=execute(fresh, request.sql, request.parameters, format))
            except refusal.Refused as e:
                return SelectReply(error=e.reason, kind=e.kind)
            except EngineError as e:
                refused = refusal.explain_failure(e)
                return SelectReply(error=refused.reason, kind=refused.kind)
            finally:
                fresh.close()

        return await self._asking.run(work)

    def close(self) -> None:
        """Close every connection once its query is done."""
        self._trusted.close()
        self._asking.close()


def _answer(connection: Connection, request: SelectRequest) -> SelectReply:
    try:
        return SelectReply(data=execute(connection, request.sql, request.parameters, request.format or "JSON"))
    except EngineError as e:
        return SelectReply(error=str(e), kind="limit" if e.code in _LIMIT_CODES else "syntax")


class _Pool:
    def __init__(self, lanes: list[Lane]) -> None:
        self._all = lanes
        self._free: asyncio.Queue[Lane] = asyncio.Queue()
        self._waiting = 0
        for lane in lanes:
            self._free.put_nowait(lane)

    async def run(self, work: Callable[[Connection], SelectReply]) -> SelectReply:
        if self._waiting >= WAITING:
            return SelectReply(error="too many queries wait already; try again", kind="limit")
        self._waiting += 1
        try:
            lane = await self._free.get()
        finally:
            self._waiting -= 1
        task = asyncio.ensure_future(lane.run(work))
        # A caller that goes away does not free the lane: its query still runs.
        task.add_done_callback(lambda _: self._free.put_nowait(lane))
        return await asyncio.shield(task)

    def close(self) -> None:
        for lane in self._all:
            lane.close()
