"""Batches that arrived and are not answered yet. They belong to the receiver, not to the stream.

When a stream breaks, its batches go on to the store, and if they come again meanwhile they are not judged twice.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from modelward_proto.fields import EVENT_NAMES
from modelward_proto.v1.store_pb2 import AppendReply, AppendRequest
from modelward_proto.v1.stream_pb2 import Batch

from modelward_collector import metrics
from modelward_collector.ingest.credit import InFlight
from modelward_collector.ingest.judging import Judged, Judging
from modelward_collector.ingest.own_events import lost, number_of, own_batch
from modelward_collector.ingest.payload import PayloadError
from modelward_collector.ingest.quarantine import QuarantineFolder
from modelward_collector.ingest.store_link import StoreLink
from modelward_collector.ingest.validate import Source
from modelward_collector.store.names import file_name

_log = logging.getLogger(__name__)

PAUSES_S = (0.2, 1.0, 5.0)
"""Before the second, third and fourth try to judge a batch that the collector failed on."""

Key = tuple[str, bytes, bytes]
"""Host, agent, epoch."""


@dataclass(slots=True)
class _Entry:
    checksum: int
    kinds: dict[str, int]
    task: asyncio.Task[AppendReply] = field(repr=False)


class Pending:
    """Takes batches through judge and store; answers each caller when its batch is durable or set aside."""

    def __init__(self, judging: Judging, link: StoreLink, quarantine: QuarantineFolder) -> None:
        self._judging = judging
        self._link = link
        self._quarantine = quarantine
        self._entries: dict[Key, dict[int, _Entry]] = {}
        self.in_flight = InFlight(gauge=metrics.IN_FLIGHT)

    async def take(self, batch: Batch, source: Source) -> asyncio.Task[AppendReply]:
        """Wait for room, then start on a batch, or find it under way. The task's result is the store's answer."""
        key = (source.host, source.agent_id, batch.epoch)
        size = batch.ByteSize()
        metrics.BATCHES.inc()
        metrics.BYTES.inc(size)
        await self.in_flight.take(size)
        while (known := self._entries.get(key, {}).get(batch.number)) is not None:
            if known.checksum == batch.checksum:
                metrics.REPEATED.inc()
                self.in_flight.give(size)
                return known.task
            # The same name with other content: the store tells them apart, once the first is stored.
            try:
                await asyncio.wait([known.task])
            except asyncio.CancelledError:
                self.in_flight.give(size)
                raise
        task = asyncio.create_task(self._store(batch, source, key, size))
        self._entries.setdefault(key, {})[batch.number] = _Entry(batch.checksum, dict(batch.kinds), task)
        return task

    def kinds(self, key: Key) -> Mapping[str, int]:
        """Events under way of one epoch, by kind, as the agent counts them."""
        found: dict[str, int] = {}
        for entry in self._entries.get(key, {}).values():
            for kind, count in entry.kinds.items():
                found[kind] = found.get(kind, 0) + count
        return found

    async def drain(self, timeout_s: float) -> int:
        """Wait until all are answered; how many were not in that time."""
        tasks = [e.task for entries in self._entries.values() for e in entries.values()]
        if not tasks:
            return 0
        _, rest = await asyncio.wait(tasks, timeout=timeout_s)
        return len(rest)

    async def _store(self, batch: Batch, source: Source, key: Key, size: int) -> AppendReply:
        started = time.monotonic()
        try:
            request = await self._request(batch, source)
            reply = await self._link.append(request)
            if reply.quarantined:
                metrics.QUARANTINED.inc()
                try:
                    await self._tell_lost(batch, source, dict(request.kinds))
                except Exception:
                    # It is in the ledger, and an agent without an answer would wait for it as long as its stream lasts.
                    _log.exception("the loss of a batch could not be told as an event", extra={"host": source.host})
                name = file_name(source.agent_id, batch.epoch, batch.number, batch.checksum)
                await asyncio.to_thread(self._quarantine.keep, name, batch.arrow)
            metrics.ANSWER_SECONDS.observe(time.monotonic() - started)
            return reply
        finally:
            # Exactly this task's entry: take() starts none beside it.
            entries = self._entries[key]
            del entries[batch.number]
            if not entries:
                del self._entries[key]
            self.in_flight.give(size)

    async def _tell_lost(self, batch: Batch, source: Source, kinds: dict[str, int]) -> None:
        """Make the loss an event of its own, before the agent hears of it and deletes the batch."""
        number = number_of(batch.epoch.hex(), batch.number, batch.checksum)
        await self._link.append(await own_batch(
            self._judging, source.host, source.agent_id, number, time.time_ns(), lost(kinds)))

    async def _request(self, batch: Batch, source: Source) -> AppendRequest:
        request = AppendRequest(
            agent_id=source.agent_id, epoch=batch.epoch, number=batch.number, checksum=batch.checksum,
            batch_time_ns=batch.batch_time_ns, host=source.host)
        try:
            judged = await self._judged(batch, source)
        except PayloadError as e:
            request.quarantine = str(e)
            request.kinds.update(claimed(batch.kinds))
            return request
        request.events, request.detections, request.bindings = judged.events, judged.detections, judged.bindings
        request.decoded_bytes = judged.decoded_bytes
        request.kinds.update(judged.kinds)
        return request

    async def _judged(self, batch: Batch, source: Source) -> Judged:
        """Judge a batch, again where it fails for a reason that may pass, such as no memory.

        Raises:
            PayloadError: it cannot be read, or failed every time.
        """
        for pause in (*PAUSES_S, None):
            try:
                return await self._judging.judge(batch, source)
            except PayloadError:
                raise
            except Exception:
                _log.exception("a batch could not be judged", extra={
                    "host": source.host, "batch": batch.number, "again_in_s": pause})
            if pause is not None:
                await asyncio.sleep(pause)
        raise PayloadError("the collector failed on this batch, again and again; its log says how")


def claimed(kinds: Mapping[str, int]) -> dict[str, int]:
    """What an agent claims of a batch that cannot be read, bounded: only known kinds, believable counts."""
    known = frozenset(EVENT_NAMES.values())
    return {kind: count for kind, count in kinds.items() if kind in known and count <= 1 << 40}
