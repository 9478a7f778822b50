"""Spool to stream, in the sending process. Its end loses nothing: the next one reads the folder anew."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import socket
import time
from pathlib import Path
from typing import Any

from modelward_proto import __version__
from modelward_proto.fields import SCHEMA_VERSION
from modelward_proto.v1 import stream_pb2 as pb

from modelward_agent.commands import Commands
from modelward_agent.control import MAX_BACKLOG, Channel, ChannelClosed
from modelward_agent.enrich.enricher import Enricher
from modelward_agent.identity.recogniser import Recogniser
from modelward_agent.identity.resolver import Resolver
from modelward_agent.naming import Naming
from modelward_agent.sensor import records
from modelward_agent.settings import AgentSettings
from modelward_agent.spool.batch import CorruptBatch, Layout, SpooledBatch
from modelward_agent.spool.folder import Folder
from modelward_agent.spool.ranges import Range
from modelward_agent.spool.reader import SpoolBusy, SpoolReader
from modelward_agent.transport import payload
from modelward_agent.transport.connection import Outgoing
from modelward_agent.transport.reconnect import Reconnect
from modelward_agent.transport.target import Target

log = logging.getLogger(__name__)

STOP_S = 8.0
RESULTS_EVERY_S = 0.2
MAX_SHORT = 5
"""A batch for which there was no memory this often is not to hold back all others."""

MODES = {"watching": pb.MODE_WATCHING, "paused": pb.MODE_PAUSED, "degraded": pb.MODE_DEGRADED}

CLONED = ("the collector holds {} batches of other content under this agent's id: another agent has a copy of this state folder; "
          "stop one of them and remove its state folder")


class Sender:
    """Source of a stream's batches, and the drainer's correspondent."""

    def __init__(
        self, channel: Channel, begin: dict[str, Any], layout: Layout, enricher: Enricher, resolver: Resolver,
        recogniser: Recogniser,
    ) -> None:
        self._channel = channel
        self._begin = begin
        settings = AgentSettings(**begin["settings"])
        self._limit_bytes = settings.spool_max_bytes
        self._host_name = settings.host_name or socket.gethostname()
        self._labels = settings.label
        self._epoch = bytes.fromhex(begin["epoch"])
        folder = Folder(Path(begin["spool"]), self._epoch)
        self._lock = _lock(folder.path / "sender.lock")
        self._reader = SpoolReader(folder, layout)
        self._naming = Naming(channel, enricher, resolver, recogniser, folder.path, begin["boot_id"])
        self._status: dict[str, Any] = begin["status"]
        self._doors_sent: list[dict[str, Any]] = []
        self._kinds: dict[int, dict[str, int]] = {}
        self._short: dict[int, int] = {}
        target = Target.parse(settings.collector, settings.tls_ca, settings.tls_cert, settings.tls_key)
        self._stream = Reconnect(target, self, self._epoch, self._down)
        self._commands = Commands(lambda id: channel.tell("canary", id), self._stream.beat)
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Until the drainer says stop or is gone."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._channel.socket.fileno(), self._listen)
        streaming = asyncio.create_task(self._stream.run())
        telling = asyncio.create_task(self._tell())
        try:
            stopped = asyncio.create_task(self._stopping.wait())
            done, _ = await asyncio.wait({streaming, telling, stopped}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            self._stream.stop()
            await asyncio.wait({streaming}, timeout=STOP_S)
        finally:
            loop.remove_reader(self._channel.socket.fileno())
            streaming.cancel()
            telling.cancel()
            await asyncio.gather(streaming, telling, return_exceptions=True)
            self._channel.flush()
            self._naming.close()

    # What a stream asks and reports (transport.connection.Source).

    def hello(self) -> pb.Hello:
        self._doors_sent = self._status["doors"]
        return pb.Hello(
            agent_id=bytes.fromhex(self._begin["agent_id"]), epoch=self._epoch, schema_version=SCHEMA_VERSION,
            agent_version=__version__, host_name=self._host_name, boot_id=self._begin["boot_id"],
            kernel_release=os.uname().release, first_unacked=self._reader.first_unacked(),
            last_spooled=max(self._reader.last_number, self._status["last_number"]),
            doors=[pb.Door(**door) for door in self._doors_sent], labels=self._labels,
        )

    def heartbeat(self) -> pb.Heartbeat:
        status = self._status
        doors = status["doors"] if status["doors"] != self._doors_sent else []
        self._doors_sent = status["doors"]
        return pb.Heartbeat(
            time_ns=time.time_ns(), uptime_ns=status["uptime_ns"],
            ledger=[pb.Count(hop=hop, kind=kind, count=count) for hop, kind, count in status["ledger"]],
            doors=[pb.Door(**door) for door in doors],
            spool_bytes=status["spool_bytes"], spool_limit_bytes=self._limit_bytes,
            tracked_processes=self._naming.processes, oldest_unacked_age_ns=self._reader.oldest_age_ns(),
            problems=[*status["problems"], *self._naming.problems()],
            mode=MODES[status["mode"]], mode_reason=status["mode_reason"], results=self._commands.results(),
        )

    def opened(self, welcome: pb.Welcome, held: list[Range]) -> None:
        told = {number: checksum for r in welcome.held if len(r.checksums) == r.last - r.first + 1
                for number, checksum in zip(range(r.first, r.last + 1), r.checksums, strict=True)}
        others = 0
        for number in self._reader.held(held):
            if number in told and self._reader.checksum(number) not in (None, told[number]):
                # What is stored there is not this batch: it is sent, and the collector says so and counts it.
                others += 1
                continue
            self._channel.tell("stored", number, self._reader.kinds(number))
            self._reader.settle(number)
        problem = CLONED.format(others) if others else ""
        if problem:
            log.error("another agent has a copy of this state folder", extra={"batches": others})
        log.info("stream to the collector is up", extra={
            "collector_version": welcome.collector_version, "filed_as": welcome.host_name,
            "waiting": self._reader.waiting(), "credit": welcome.credit_bytes})
        self._channel.tell("stream", True, problem)

    def next(self) -> Outgoing | None:
        while self._channel.backlog < MAX_BACKLOG and (number := self._reader.next()) is not None:
            batch = None
            try:
                batch = self._reader.claim(number)
                if batch is None:
                    continue
                self._channel.tell("reading", number)
                message = self._message(batch)
                # From here on it may wait for credit as long as the collector likes.
                self._channel.tell("reading", None)
                self._short.pop(number, None)
                return Outgoing(number, message)
            except CorruptBatch as e:
                self._set_aside(number, e.kinds, str(e))
            except SpoolBusy as e:
                # Tried again at the next heartbeat, or with the next batch.
                log.warning("a batch cannot be read now", extra={"batch": number, "reason": str(e)})
                return None
            except MemoryError:
                self._short[number] = self._short.get(number, 0) + 1
                self._channel.tell("reading", None)
                log.warning("a batch cannot be prepared now, for want of memory", extra={"batch": number})
                if self._short[number] < MAX_SHORT:
                    self._reader.again([number])
                    return None
                self._set_aside(number, batch.kinds if batch else {}, "cannot be prepared: there was never memory for it")
            except Exception as e:
                # One batch that nobody foresaw must not hold back all that come after it.
                log.exception("a batch cannot be prepared", extra={"batch": number})
                self._set_aside(number, batch.kinds if batch else {}, f"cannot be prepared: {type(e).__name__}: {e}")
        return None

    def sending(self, batch: Outgoing) -> None:
        self._channel.tell("sent", batch.number, self._kinds[batch.number])

    def stored(self, number: int) -> None:
        self._channel.tell("stored", number, self._kinds.pop(number))
        self._reader.settle(number)

    def quarantined(self, number: int, reason: str) -> None:
        self._channel.tell("quarantined", number, self._kinds.pop(number), reason)
        self._reader.settle(number)

    def unsent(self, numbers: list[int]) -> None:
        for number in numbers:
            self._kinds.pop(number, None)
        self._reader.again(numbers)

    def command(self, command: pb.Command) -> None:
        self._commands.take(command)

    def _message(self, batch: SpooledBatch) -> pb.Batch:
        message = payload.message(batch, self._naming.rows(batch))
        self._kinds[batch.number] = dict(batch.kinds)
        return message

    def _set_aside(self, number: int, kinds: Any, reason: str) -> None:
        self._channel.tell("corrupt", number, dict(kinds), reason)
        self._reader.settle(number)

    def _down(self, reason: str) -> None:
        self._commands.untold()
        self._channel.tell("stream", False, reason)

    def _listen(self) -> None:
        try:
            messages = self._channel.receive()
        except ChannelClosed:
            log.warning("the drainer is gone")
            asyncio.get_running_loop().remove_reader(self._channel.socket.fileno())
            self._stopping.set()
            return
        for message in messages:
            if isinstance(message, bytes):
                continue
            what, *rest = message
            if what == "spooled":
                self._reader.note(rest[0])
            elif what == "status":
                before, self._status = self._status, rest[0]
                if (before["mode"], before["mode_reason"]) != (self._status["mode"], self._status["mode_reason"]):
                    self._stream.beat()
                if self._status["last_number"] > self._reader.last_number:
                    self._reader.scan()
            elif what == "result":
                self._commands.done(rest[0], rest[1])
            elif what == "stop":
                self._stopping.set()
        self._stream.wake()

    async def _tell(self) -> None:
        """Tell the drainer what was found out, and see to commands that wait."""
        while True:
            self._commands.poll()
            self._naming.tell()
            await asyncio.sleep(RESULTS_EVERY_S)


def _lock(path: Path) -> int:
    """One sender for a spool: one whose drainer was killed may still be ending. Released when the process ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


async def serve(channel: Channel, begin: dict[str, Any]) -> None:
    """Send until the drainer says stop or is gone. ``begin``: what it told first."""
    layout = Layout(records.SMALL, records.LARGE)
    # A Hugging Face cache or a restart must not cost reading a model again: digests outlive this process.
    resolver = Resolver(known=Path(begin["spool"]).parent / "identities", boot_id=begin["boot_id"])
    await Sender(channel, begin, layout, Enricher(boot_id=begin["boot_id"]), resolver, Recogniser()).run()
