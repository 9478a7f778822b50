"""One stream's life: Hello and Welcome, batches within the credit, acks, heartbeats, until it breaks or is stopped."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
import grpc.aio
from modelward_proto.fields import SCHEMA_VERSION
from modelward_proto.v1 import stream_pb2 as pb
from modelward_proto.v1 import stream_pb2_grpc

from modelward_agent.spool.ranges import Range, within
from modelward_agent.transport.target import Target

EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]  # grpc-stubs 1.53 lacks it
HEARTBEAT_S = 5.0
WELCOME_S = 5.0
WRITE_S = 60.0
GOODBYE_S = 1.0
CHANNEL_OPTIONS: tuple[tuple[str, int | str], ...] = (
    # Without a pool of its own a new channel shares the old one's connection and its back-off: it would be stuck alike.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", 4 << 20),
    ("grpc.enable_http_proxy", 0),
)


class StreamRefused(Exception):
    """The collector answers, and will not serve this agent: another try soon would be the same."""


class StreamBroken(Exception):
    """The stream ended or could not be opened; the message says why in a few words."""


@dataclass(frozen=True)
class Outgoing:
    """A batch ready for the wire."""

    number: int
    message: pb.Batch

    @property
    def size(self) -> int:
        """Bytes that count against the credit."""
        return len(self.message.arrow)


class Source(Protocol):
    """Where batches come from, and who learns what became of them."""

    def hello(self) -> pb.Hello: ...
    def heartbeat(self) -> pb.Heartbeat: ...
    def opened(self, welcome: pb.Welcome, held: list[Range]) -> None: ...
    def next(self) -> Outgoing | None: ...
    def sending(self, batch: Outgoing) -> None: ...
    def stored(self, number: int) -> None: ...
    def quarantined(self, number: int, reason: str) -> None: ...
    def unsent(self, numbers: list[int]) -> None: ...
    def command(self, command: pb.Command) -> None: ...


def _said(error: grpc.aio.AioRpcError, *, with_tls: bool) -> str:
    text = f"{error.code().name.lower()}: {error.details() or 'no details'}"
    if "Socket closed" not in text:
        return text
    # What a peer that ended the handshake leaves is no more than this.
    if with_tls:
        return f"{text} (perhaps its --tls-client-ca did not sign this agent's certificate)"
    return f"{text} (perhaps it wants TLS: --tls-ca, --tls-cert and --tls-key)"


class Connection:
    """A fresh channel with one stream on it. :meth:`wake` tells it that there may be something to send."""

    def __init__(self, target: Target, source: Source, epoch: bytes) -> None:
        self._target = target
        self._source = source
        self._epoch = epoch
        self._wakeup = asyncio.Event()
        self._beat_at = 0.0
        self._stopping = False
        self._credit = 0
        self._in_flight: dict[int, int] = {}
        self._ready: Outgoing | None = None
        self.was_open = False
        """Whether the collector ever said Welcome."""

    def wake(self) -> None:
        self._wakeup.set()

    def beat(self) -> None:
        """Send a heartbeat now: it has something to say that should not wait."""
        self._beat_at = 0.0
        self._wakeup.set()

    def stop(self) -> None:
        """End when all that waits is sent and answered; the caller bounds how long that may take."""
        self._stopping = True
        self._wakeup.set()

    async def run(self) -> None:
        """Until :meth:`stop` and the last answer.

        Raises:
            StreamBroken, StreamRefused: why it ended otherwise.
        """
        pem, address = self._target.read_pem(), self._target.address
        channel = (
            grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
            if pem is None
            else grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(*pem), options=CHANNEL_OPTIONS)
        )
        try:
            call = stream_pb2_grpc.CollectorStub(channel).Stream()
            await self._open(call)
            self.was_open = True
            await self._serve(call)
        except grpc.aio.AioRpcError as e:
            raise StreamBroken(_said(e, with_tls=pem is not None)) from e
        except (TimeoutError, asyncio.InvalidStateError, grpc.aio.UsageError) as e:
            raise StreamBroken(str(e) or "no answer in time") from e
        finally:
            self._source.unsent([*self._in_flight, *([self._ready.number] if self._ready else [])])
            await channel.close(None)

    async def _open(self, call: Any) -> None:
        async with asyncio.timeout(WELCOME_S):
            await call.write(pb.AgentMessage(hello=self._source.hello()))
            answer = await call.read()
        if answer is EOF:
            raise StreamBroken(await _ending(call))
        if answer.WhichOneof("message") == "refusal":
            raise StreamRefused(answer.refusal.reason)
        if answer.WhichOneof("message") != "welcome":
            raise StreamBroken("the collector did not begin with Welcome")
        welcome = answer.welcome
        if not welcome.schema_min <= SCHEMA_VERSION <= welcome.schema_max:
            raise StreamRefused(
                f"the collector ({welcome.collector_version}) reads payload versions {welcome.schema_min} to "
                f"{welcome.schema_max}, this agent writes {SCHEMA_VERSION}: upgrade one of them"
            )
        self._credit = welcome.credit_bytes
        self._source.opened(welcome, [(r.first, r.last) for r in welcome.held])

    async def _serve(self, call: Any) -> None:
        reading = asyncio.create_task(self._read(call))
        writing = asyncio.create_task(self._write(call))
        try:
            done, _ = await asyncio.wait({reading, writing}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if reading in done:
                raise StreamBroken(await _ending(call))
            # We said that we are done: let the collector read that before the channel goes.
            await asyncio.wait({reading}, timeout=GOODBYE_S)
        finally:
            for task in (reading, writing):
                task.cancel()
            await asyncio.gather(reading, writing, return_exceptions=True)

    async def _read(self, call: Any) -> None:
        while (message := await call.read()) is not EOF:
            which = message.WhichOneof("message")
            if which == "ack":
                self._acked(message.ack)
            elif which == "quarantine":
                answer = message.quarantine
                if answer.epoch == self._epoch and self._in_flight.pop(answer.number, None) is not None:
                    self._source.quarantined(answer.number, answer.reason)
            elif which == "credit":
                self._credit = message.credit.bytes
            elif which == "command":
                self._source.command(message.command)
            elif which == "refusal":
                raise StreamRefused(message.refusal.reason)
            self._wakeup.set()

    def _acked(self, ack: pb.Ack) -> None:
        if ack.epoch != self._epoch:
            return
        # Only what this stream has in flight: an answer to anything else must not delete a batch.
        for number in within(list(self._in_flight), [(r.first, r.last) for r in ack.batches]):
            del self._in_flight[number]
            self._source.stored(number)

    async def _write(self, call: Any) -> None:
        while True:
            if time.monotonic() >= self._beat_at:
                # Before it is sent: what comes up meanwhile asks for another one.
                self._beat_at = time.monotonic() + HEARTBEAT_S
                await self._send(call, pb.AgentMessage(heartbeat=self._source.heartbeat()))
            self._wakeup.clear()
            batch = self._next()
            if batch is not None:
                self._in_flight[batch.number] = batch.size
                self._source.sending(batch)
                await self._send(call, pb.AgentMessage(batch=batch.message))
                continue
            if self._stopping and not self._in_flight:
                break
            try:
                async with asyncio.timeout(max(0.0, self._beat_at - time.monotonic())):
                    await self._wakeup.wait()
            except TimeoutError:
                pass
        await self._send(call, pb.AgentMessage(heartbeat=self._source.heartbeat()))
        await call.done_writing()

    def _next(self) -> Outgoing | None:
        """The next batch that the credit allows. One larger than the whole credit goes alone, else it would wait for ever."""
        if self._credit == 0:
            return None
        if self._ready is None:
            self._ready = self._source.next()
        if self._ready is None:
            return None
        if self._in_flight and sum(self._in_flight.values()) + self._ready.size > self._credit:
            return None
        batch, self._ready = self._ready, None
        return batch

    async def _send(self, call: Any, message: pb.AgentMessage) -> None:
        async with asyncio.timeout(WRITE_S):
            await call.write(message)


async def _ending(call: Any) -> str:
    code = await call.code()
    return f"{code.name.lower()}: {await call.details() or 'the collector closed the stream'}"
