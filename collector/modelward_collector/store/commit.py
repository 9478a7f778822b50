"""Group commit: many callers wait, one insert answers them all. The engine takes some 50 inserts a second, of any size."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from modelward_proto.v1.store_pb2 import AppendRequest

from modelward_collector.store.insert import Outcome, StoreBusy
from modelward_collector.store.interface import StoreUnavailable

_log = logging.getLogger(__name__)

GROUP_BYTES = 8 << 20
"""About 20,000 rows: a group is closed at this size at once."""

GROUP_CALLS = 2_000
QUEUE_BYTES = 48 << 20
"""Requests that may wait; a caller beyond that is told to come again."""

PATIENCE_S = 0.2
"""How long a group waits for more: each insert is a part that the engine must merge, so quiet hosts should not make many."""

URGENT_S = 0.03
"""The same once a detection is in the group: somebody waits for that one."""

Commit = Callable[[list[AppendRequest]], Awaitable[list[Outcome | StoreBusy]]]


@dataclass(slots=True)
class _Call:
    request: AppendRequest
    size: int
    """Bytes that it takes while it waits."""
    decoded: int
    """Bytes that it takes in the insert."""
    done: asyncio.Future[Outcome] = field(repr=False)


class GroupCommit:
    """Collects calls into groups and hands one group after another to ``commit``."""

    def __init__(self, commit: Commit) -> None:
        self._commit = commit
        self._queue: asyncio.Queue[_Call | None] = asyncio.Queue()
        self._bytes = 0
        self._closed = False
        self._task = asyncio.create_task(self._run())

    async def append(self, request: AppendRequest) -> Outcome:
        """Wait until the request is stored.

        Raises:
            StoreUnavailable: the queue is full, the store cannot take it now, or is closing.
        """
        size = len(request.events) + len(request.detections) + len(request.bindings) + 500
        if self._closed:
            raise StoreUnavailable("the store is stopping")
        if self._bytes + size > QUEUE_BYTES and self._bytes:
            raise StoreUnavailable("the store is behind: its queue is full")
        call = _Call(request, size, max(size, request.decoded_bytes), asyncio.get_running_loop().create_future())
        self._bytes += size
        self._queue.put_nowait(call)
        try:
            return await asyncio.shield(call.done)
        except asyncio.CancelledError:
            # The caller went away; the batch is stored all the same, and nobody must be told.
            call.done.add_done_callback(lambda f: f.cancelled() or f.exception())
            raise

    async def close(self) -> None:
        """Store what waits and stop."""
        self._closed = True
        self._queue.put_nowait(None)
        await self._task

    async def _run(self) -> None:
        stopping = False
        while not stopping:
            first = await self._queue.get()
            if first is None:
                return
            group, stopping = await self._collect(first)
            await self._store(group)

    async def _collect(self, first: _Call) -> tuple[list[_Call], bool]:
        group, size = [first], first.decoded
        started = time.monotonic()
        urgent = bool(first.request.detections)
        while size < GROUP_BYTES and len(group) < GROUP_CALLS:
            rest = started + (URGENT_S if urgent else PATIENCE_S) - time.monotonic()
            if rest <= 0 and self._queue.empty():
                break
            try:
                call = await asyncio.wait_for(self._queue.get(), max(rest, 0.001))
            except TimeoutError:
                break
            if call is None:
                return group, True
            group.append(call)
            size += call.decoded
            urgent = urgent or bool(call.request.detections)
        return group, False

    async def _store(self, group: list[_Call]) -> None:
        try:
            outcomes = await self._commit([c.request for c in group])
        except Exception as e:
            # A defect of ours must not end the loop: every caller would wait for ever.
            _log.exception("a group could not be stored")
            outcomes = [StoreBusy(f"internal error: {e}") for _ in group]
        for call, outcome in zip(group, outcomes, strict=True):
            self._bytes -= call.size
            if call.done.done():
                continue
            if isinstance(outcome, StoreBusy):
                call.done.set_exception(StoreUnavailable(str(outcome)))
            else:
                call.done.set_result(outcome)
