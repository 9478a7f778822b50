"""An agent's word on its way to the store: one call at a time and the latest wins, so that a stalled store holds up no stream."""

from __future__ import annotations

import asyncio

from modelward_proto.v1.store_pb2 import ReportRequest
from modelward_proto.v1.stream_pb2 import Count, Heartbeat, Hello

from modelward_collector.ingest.pending import Pending
from modelward_collector.ingest.store_link import StoreLink
from modelward_collector.ingest.validate import Source

CLOSE_S = 2.0


class Reports:
    """Reports of one stream. Each carries Hello, so that one that was lost with a crashed store is made good by the next."""

    def __init__(self, link: StoreLink, pending: Pending, source: Source, hello: Hello) -> None:
        self._link = link
        self._pending = pending
        self._source = source
        self._hello = hello
        self._heartbeat: Heartbeat | None = None
        self._waiting = False
        self._task: asyncio.Task[None] | None = None

    def send(self, heartbeat: Heartbeat | None = None) -> None:
        """Report that the agent was heard, and what it said."""
        if heartbeat is not None:
            self._heartbeat = heartbeat
            if heartbeat.doors:
                del self._hello.doors[:]
                self._hello.doors.extend(heartbeat.doors)
        self._waiting = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Report that the stream ended, if the store hears it soon."""
        async def last() -> None:
            if self._task is not None:
                await self._task
            await self._link.report(self._request(closed=True))

        await asyncio.wait([asyncio.create_task(last())], timeout=CLOSE_S)

    async def _run(self) -> None:
        while self._waiting:
            self._waiting = False
            await self._link.report(self._request(closed=False))

    def _request(self, closed: bool) -> ReportRequest:
        source, epoch = self._source, self._hello.epoch
        under_way = self._pending.kinds((source.host, source.agent_id, epoch))
        return ReportRequest(
            host=source.host, agent_id=source.agent_id, epoch=epoch, hello=self._hello, heartbeat=self._heartbeat, closed=closed,
            received=[Count(hop="received", kind=kind, count=n) for kind, n in under_way.items()])
