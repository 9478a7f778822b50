"""How much may be on its way: bytes for each agent, and bytes held by this process over all of them."""

from __future__ import annotations

import asyncio

from prometheus_client import Gauge

IN_FLIGHT_BYTES = 64 << 20
"""Bytes of batches that one receiver holds unanswered; beyond that it stops reading, and flow control holds the agents."""

PER_HOST_BYTES = 16 << 20
"""Of these, what the streams of one host may hold: credit asks, and this is for one that does not listen."""

MOST_CREDIT = 8 << 20
LEAST_CREDIT = 2 << 20
"""More than the largest usual batch, so that an agent with credit can always send one."""


class InFlight:
    """Bytes that arrived and are not answered yet: over all streams of this process, or those of one host."""

    def __init__(self, limit: int = IN_FLIGHT_BYTES, gauge: Gauge | None = None) -> None:
        self._limit = limit
        self._gauge = gauge
        self._bytes = 0
        self._freed = asyncio.Event()

    async def take(self, size: int) -> None:
        """Wait until there is room. A batch larger than the limit passes alone."""
        while self._bytes and self._bytes + size > self._limit:
            self._freed.clear()
            await self._freed.wait()
        self._change(size)

    def give(self, size: int) -> None:
        """Return what :meth:`take` took. Nothing is awaited here: a stream that is cut in that moment must not keep it."""
        self._change(-size)
        self._freed.set()

    def _change(self, size: int) -> None:
        self._bytes += size
        if self._gauge is not None:
            self._gauge.set(self._bytes)


def credit(streams: int, accepts: bool) -> int:
    """Bytes that each of so many agents may have in flight."""
    if not accepts:
        return 0
    return max(LEAST_CREDIT, min(MOST_CREDIT, IN_FLIGHT_BYTES // max(1, streams)))
