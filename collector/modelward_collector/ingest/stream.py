"""One agent's stream: Hello, then batches and heartbeats in, answers and credit out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from modelward_proto import __version__
from modelward_proto.fields import SCHEMA_MIN, SCHEMA_VERSION
from modelward_proto.v1.store_pb2 import AppendReply, HeldRequest
from modelward_proto.v1.stream_pb2 import (
    Ack,
    AgentMessage,
    Batch,
    CollectorMessage,
    Credit,
    Hello,
    Quarantine,
    Range,
    Refusal,
    Welcome,
)

from modelward_collector.ingest.control import Commands
from modelward_collector.ingest.credit import PER_HOST_BYTES, InFlight
from modelward_collector.ingest.identity import Context, IdentityError, host_name
from modelward_collector.ingest.pending import Pending
from modelward_collector.ingest.reports import Reports
from modelward_collector.ingest.store_link import StoreLink
from modelward_collector.ingest.validate import Source
from modelward_collector.store.names import OWN_EPOCH

_log = logging.getLogger(__name__)

HELLO_TIMEOUT_S = 15.0
LAST_ANSWERS_S = 5.0
MOST_WORD_BYTES = 1 << 20
"""Of a Hello or heartbeat: both are kept, and passed on every few seconds."""


class Refused(Exception):
    """The stream ends with this reason."""


@dataclass(slots=True)
class Streams:
    """All open streams of this receiver, and what they share."""

    pending: Pending
    link: StoreLink
    retention_days: int
    port: int
    open: dict[tuple[str, bytes], AgentStream] = field(default_factory=dict)
    commands: Commands = field(default_factory=Commands)
    shares: WeakValueDictionary[str, InFlight] = field(default_factory=WeakValueDictionary)
    """What the streams of one host hold together; kept as long as one of them is there."""
    credit_bytes: int = 0
    closing: bool = False

    def share(self, host: str) -> InFlight:
        """Of a host, by which one that ignores its credit is held up before it takes the room of all."""
        found = self.shares.get(host)
        if found is None:
            found = self.shares[host] = InFlight(PER_HOST_BYTES)
        return found

    def set_credit(self, value: int) -> None:
        """Tell every agent when its credit changed."""
        if value != self.credit_bytes:
            self.credit_bytes = value
            for stream in self.open.values():
                stream.send(CollectorMessage(credit=Credit(bytes=value)))


class AgentStream:
    """State of one stream."""

    def __init__(self, streams: Streams, context: Context) -> None:
        self.heard = time.time()
        """Wall clock of the last message."""
        self.welcomed = False
        self.version = ""
        self._streams = streams
        self._context = context
        self._outbox: deque[CollectorMessage] = deque()
        self._acks: set[int] = set()
        self._wake = asyncio.Event()
        self._source = Source("", b"", streams.retention_days)
        self._epoch = b""
        self._ended = False
        self._answering: set[asyncio.Task[AppendReply]] = set()
        self._reading: asyncio.Future[None] | None = None
        self._reports: Reports | None = None
        self._share = InFlight(PER_HOST_BYTES)

    async def run(self, messages: AsyncIterator[AgentMessage]) -> None:
        """Serve the stream until either side ends it."""
        sender = asyncio.create_task(self._send())
        try:
            hello = await self._hello(messages)
            self._reading = asyncio.ensure_future(self._serve(hello, messages))
            await self._reading
        except Refused as e:
            _log.warning("a stream was refused", extra={
                "host": self._source.host, "peer": self._context.peer(), "reason": str(e)})
            self.send(CollectorMessage(refusal=Refusal(reason=str(e))))
        except asyncio.CancelledError:
            if not self._streams.closing and self._context.done():
                raise
        finally:
            await self._finish(sender)

    def send(self, message: CollectorMessage) -> None:
        """Queue a message. Few and small: credit, refusal, one answer for each batch in flight."""
        self._outbox.append(message)
        self._wake.set()

    def end(self) -> None:
        """Stop reading; what is under way is answered."""
        if self._reading is not None:
            self._reading.cancel()

    async def _hello(self, messages: AsyncIterator[AgentMessage]) -> Hello:
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                first = await anext(messages)
        except (TimeoutError, StopAsyncIteration):
            raise Refused("a stream begins with Hello") from None
        if first.WhichOneof("message") != "hello":
            raise Refused("a stream begins with Hello")
        hello = first.hello
        _check_size(first)
        if len(hello.agent_id) != 16 or len(hello.epoch) != 16 or hello.epoch == OWN_EPOCH:
            raise Refused("agent_id and epoch are 16 random bytes each")
        try:
            host = host_name(self._context, hello.host_name, self._streams.port)
        except IdentityError as e:
            raise Refused(str(e)) from e
        self._source = Source(host, hello.agent_id, self._streams.retention_days)
        self._epoch = hello.epoch
        self.version = hello.agent_version
        self._share = self._streams.share(host)
        return hello

    async def _serve(self, hello: Hello, messages: AsyncIterator[AgentMessage]) -> None:
        streams, who = self._streams, (self._source.host, self._source.agent_id)
        if (earlier := streams.open.get(who)) is not None:
            # An agent that reconnects before its old stream is known to be dead.
            earlier.end()
        streams.open[who] = self
        request = HeldRequest(agent_id=hello.agent_id, epoch=hello.epoch, host=self._source.host)
        setattr(request, "from", max(1, hello.first_unacked))
        held = await streams.link.held(request)
        self.send(CollectorMessage(welcome=Welcome(
            collector_version=__version__, schema_min=SCHEMA_MIN, schema_max=SCHEMA_VERSION, held=held,
            credit_bytes=streams.credit_bytes, host_name=self._source.host)))
        self.welcomed = True
        _log.info("agent connected", extra={
            "host": self._source.host, "agent": hello.agent_id.hex(), "version": hello.agent_version[:40],
            "first_unacked": hello.first_unacked, "last_spooled": hello.last_spooled})
        self._reports = Reports(streams.link, streams.pending, self._source, hello)
        self._reports.send()
        async for message in messages:
            self.heard = time.time()
            kind = message.WhichOneof("message")
            if kind == "batch":
                await self._batch(message.batch)
            elif kind == "heartbeat":
                _check_size(message)
                streams.commands.take(self._source.host, self._source.agent_id.hex(), message.heartbeat.results)
                self._reports.send(message.heartbeat)
            elif kind == "hello":
                raise Refused("Hello comes once")

    async def _batch(self, batch: Batch) -> None:
        if batch.epoch != self._epoch:
            raise Refused("a batch of another epoch than Hello's")
        if batch.number == 0:
            raise Refused("batches are numbered from 1")
        share, size = self._share, batch.ByteSize()
        await share.take(size)
        try:
            task = await self._streams.pending.take(batch, self._source)
        except BaseException:
            share.give(size)
            raise
        task.add_done_callback(lambda _: share.give(size))
        self._answering.add(task)
        task.add_done_callback(lambda done: self._answer(batch.number, done))

    def _answer(self, number: int, done: asyncio.Task[AppendReply]) -> None:
        self._answering.discard(done)
        if self._ended or done.cancelled():
            return
        if (error := done.exception()) is not None:
            _log.error("a batch was not answered", extra={"host": self._source.host, "batch": number, "error": str(error)})
            return
        reply = done.result()
        if reply.quarantined:
            self.send(CollectorMessage(quarantine=Quarantine(epoch=self._epoch, number=number, reason=reply.quarantined)))
        else:
            self._acks.add(number)
            self._wake.set()

    async def _send(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._outbox or self._acks:
                if self._acks:
                    batches, self._acks = ranges(self._acks), set()
                    await self._context.write(CollectorMessage(ack=Ack(epoch=self._epoch, batches=batches)))
                if self._outbox:
                    await self._context.write(self._outbox.popleft())
            if self._ended:
                return

    async def _finish(self, sender: asyncio.Task[None]) -> None:
        """Answers that are due soon still go out, if the agent is still there to hear them."""
        alive = not self._context.done()
        if alive and self._answering:
            await asyncio.wait(self._answering, timeout=LAST_ANSWERS_S if self._streams.link.accepts else 0.1)
        self._ended = True
        self._wake.set()
        if alive:
            await asyncio.wait([sender], timeout=2)
        sender.cancel()
        who = (self._source.host, self._source.agent_id)
        if self._streams.open.get(who) is self:
            del self._streams.open[who]
            _log.info("agent disconnected", extra={"host": self._source.host})
            if self._reports is not None:
                await self._reports.close()


def _check_size(word: AgentMessage) -> None:
    if word.ByteSize() > MOST_WORD_BYTES:
        raise Refused(f"a Hello or heartbeat has more than {MOST_WORD_BYTES >> 20} MiB")


def ranges(numbers: set[int]) -> list[Range]:
    """Numbers as ranges with both ends."""
    found: list[Range] = []
    for number in sorted(numbers):
        if found and found[-1].last == number - 1:
            found[-1].last = number
        else:
            found.append(Range(first=number, last=number))
    return found
