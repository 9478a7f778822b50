"""What happens now: one poller asks the store for new rows and hands them to every open page and
``modelward tail``.

A slow reader never makes the others wait: each has a bounded queue, and when it is full the reader is told
how many rows it missed, instead of the rows.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from modelward_collector.web import queries
from modelward_collector.web.filters import instant, now
from modelward_collector.web.overview import Overview
from modelward_collector.web.store import Store, StoreError

log = logging.getLogger(__name__)

POLL_S = 0.3
OVERVIEW_S = 3.0
KEEP_ALIVE_S = 10.0
QUEUE = 500
MAX_READERS = 200
OVERLAP_NS = 30 * 10**9
"""How far back each poll looks again: rows of several receivers do not arrive in the order of their times."""

_SEEN = 20_000


class Reader:
    """One open stream."""

    def __init__(self, *, events: bool) -> None:
        self.events = events
        self.missed = 0
        self.queue: asyncio.Queue[tuple[str, Any]] = asyncio.Queue(QUEUE)

    def put(self, kind: str, data: Any) -> None:
        """Hand over a message, or count it as missed."""
        try:
            self.queue.put_nowait((kind, data))
        except asyncio.QueueFull:
            self.missed += 1


class New:
    """Which rows of a growing table were not handed out yet: looks back over an overlap and remembers names."""

    def __init__(self, sql: str, time_column: str, name: tuple[str, ...]) -> None:
        """``sql`` selects what is later than ``{after:Int64}``, in the order of ``time_column``, at most PAGE rows."""
        self._sql = sql
        self._time = time_column
        self._name = name
        self._after = time.time_ns() - OVERLAP_NS
        self._seen: OrderedDict[tuple[str, ...], None] = OrderedDict()
        self._first = True

    async def rows(self, store: Store) -> list[dict[str, Any]]:
        """Rows since the last call; none at the first, as what is there at the start is not new."""
        found = (await store.select(self._sql, {"after": str(self._after)}, seconds=10)).rows
        fresh: list[dict[str, Any]] = []
        for row in found:
            name = tuple(str(row[part]) for part in self._name)
            if name not in self._seen:
                self._seen[name] = None
                fresh.append(row)
        if found:
            last = instant(found[-1][self._time])
            # In a flood the overlap alone fills a page: then go on behind it, or the same page would come for ever.
            behind = last if len(found) >= queries.PAGE else min(last, time.time_ns()) - OVERLAP_NS
            self._after = max(self._after, behind)
        while len(self._seen) > _SEEN:
            self._seen.popitem(last=False)
        if self._first:
            self._first = len(found) >= queries.PAGE
            return []
        return fresh


class Live:
    """The poller and its readers. Asks nothing while nobody reads."""

    def __init__(self, store: Store, overview: Overview) -> None:
        self._store = store
        self._overview = overview
        self._readers: set[Reader] = set()
        self._woken = asyncio.Event()
        self._away = False
        self._ended = False

    def end(self) -> None:
        """Finish every stream, as the process stops: readers connect again to the next one."""
        self._ended = True
        self._send("end", {})

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            await self._woken.wait()
            detections = New(queries.NEW_DETECTIONS, "detected_at", ("detection_id",))
            events = New(queries.NEW_EVENTS, "batch_time", ("agent_id", "epoch", "batch", "row"))
            overview_at = 0.0
            while self._readers:
                try:
                    for row in await detections.rows(self._store):
                        self._send("detection", row)
                    if any(reader.events for reader in self._readers):
                        for row in await events.rows(self._store):
                            self._send("event", row, events_only=True)
                    if time.monotonic() >= overview_at:
                        self._send("overview", await self._overview.now())
                        overview_at = time.monotonic() + OVERVIEW_S
                    self._away = False
                except StoreError as e:
                    if not self._away:
                        log.warning("live: %s", e)
                    self._away = True
                    self._send("away", {"error": str(e)})
                    await asyncio.sleep(2)
                await asyncio.sleep(POLL_S)
            self._woken.clear()

    async def stream(self, request: Request) -> Response:
        """``GET /api/v1/tail``: server-sent events; ``?events=1`` adds events to detections."""
        if self._ended or len(self._readers) >= MAX_READERS:
            return JSONResponse({"error": "There are too many open streams."}, 503)
        reader = Reader(events=request.query_params.get("events") in ("1", "true"))
        return StreamingResponse(
            self._messages(reader),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    async def _messages(self, reader: Reader) -> AsyncIterator[str]:
        self._readers.add(reader)
        self._woken.set()
        try:
            yield "retry: 1000\n" + _message("hello", {"now": now()})
            while True:
                try:
                    kind, data = await asyncio.wait_for(reader.queue.get(), KEEP_ALIVE_S)
                    yield _message(kind, data)
                except TimeoutError:
                    yield _message("alive", {"now": now()})
                if self._ended:
                    return
                if reader.missed and reader.queue.empty():
                    missed, reader.missed = reader.missed, 0
                    yield _message("missed", {"count": missed})
        finally:
            self._readers.discard(reader)

    def _send(self, kind: str, data: Any, *, events_only: bool = False) -> None:
        for reader in self._readers:
            if reader.events or not events_only:
                reader.put(kind, data)


def _message(kind: str, data: Any) -> str:
    # JSON has no raw line breaks, so one data line holds it whatever the texts in it are.
    return f"event: {kind}\ndata: {json.dumps(data, ensure_ascii=True, separators=(',', ':'))}\n\n"
