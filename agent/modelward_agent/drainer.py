"""The main process: rings to spool. It waits for nobody: not for the disk's cache, not for the sender, not for the network.

A ring of 16 MiB lasts 63 ms at a million records a second, and a drain that came late because of other Python threads lost
records (measured): hence a process of its own, with raised priority and a frozen garbage collector.
"""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from modelward_proto.kinds import EVENT_NAMES, Kind

from modelward_agent.pending import Part, Pending
from modelward_agent.proving import Proof
from modelward_agent.spool.folder import SpoolError
from modelward_agent.spool.writer import SpoolWriter
from modelward_agent.supervise import SenderProcess

if TYPE_CHECKING:
    from modelward_agent.sensor.sensor import DoorReport, Drained

log = logging.getLogger(__name__)

DRAIN_RECORDS = 512
DRAINS_AT_ONCE = 256
BUSY_WAIT_S = 0.005
"""A fixed time, not until something comes: a drain costs as much as copying 20 records, so few and large ones are cheap."""
IDLE_WAIT_S = 0.02
"""While nothing comes, looking less often is most of what an idle host pays; the largest ring lasts longer than this."""
TICK_S = 0.05
REPEATS_S = 1.0
STATUS_S = 1.0
LATE_AFTER_S = 2.0
"""A stream that was away for less did not make anybody wait: those batches are live."""
LOSS_HOPS = ("missed", "ring_dropped")
MADE_HERE = frozenset(EVENT_NAMES[kind] for kind in (Kind.MODEL_IDENTITY, Kind.HOST_LOSS))
"""Kinds that no kernel hook saw."""


class Source(Protocol):
    """What is asked of the sensor (:class:`modelward_agent.sensor.Sensor`)."""

    def drain(self, max_records: int = ...) -> Drained: ...
    def commit(self, positions: dict[int, int]) -> None: ...
    def tick(self) -> None: ...
    def swap_repeats(self) -> np.ndarray[Any, Any]: ...
    def counters(self) -> dict[tuple[str, str], int]: ...
    def doors(self) -> Sequence[DoorReport]: ...


class Drainer:
    """Drains ``sensor`` into ``writer`` and looks after ``sender``."""

    def __init__(
        self, sensor: Source, writer: SpoolWriter, sender: SenderProcess, proof: Proof | None = None
    ) -> None:
        self._sensor = sensor
        self._writer = writer
        self._sender = sender
        self._proof = proof or Proof()
        self._pending = Pending(writer.layout)
        self._parts: list[Part] = []
        """Taken from ``pending`` and not written yet, because the disk refused."""
        self._started = time.monotonic()
        self._down_since: float | None = self._started
        self._tick_at = self._repeats_at = self._status_at = 0.0
        self._busy = False
        self._gaps = 0
        self._lost: dict[tuple[str, str], int] = {}
        self._large_empty = np.empty(0, writer.layout.large)
        self._small_empty = np.empty(0, writer.layout.small)
        self._tell_of_last_run()

    def run(self, stopping: Callable[[], bool]) -> None:
        """Until ``stopping()``; then everything in the rings is spooled, and the sender has ended."""
        self._proof.start()
        raise_priority()
        while not stopping():
            time.sleep(BUSY_WAIT_S if self._busy else IDLE_WAIT_S)
            self.step()
        self._finish()

    def step(self) -> None:
        """One round: whatever is due now."""
        now = time.monotonic()
        if now >= self._tick_at:
            self._sensor.tick()
            self._tick_at = now + TICK_S
        self._drain()
        if now >= self._repeats_at:
            self._repeats()
            self._repeats_at = now + REPEATS_S
        if self._parts or self._pending.due(late=self._late):
            self._close_batch()
        self._listen()
        self._writer.poll()
        if now >= self._status_at:
            self._status()
            self._status_at = now + STATUS_S

    @property
    def _late(self) -> bool:
        return self._down_since is not None and time.monotonic() - self._down_since > LATE_AFTER_S

    def _drain(self) -> None:
        """Take what the rings have, batch by batch. Records stay there while the spool takes no more."""
        self._busy = False
        for _ in range(DRAINS_AT_ONCE):
            if self._parts or self._writer.blocked:
                return
            drained = self._sensor.drain(DRAIN_RECORDS)
            self._gaps += sum(drained.gaps.values())
            self._pending.add(drained.small, drained.large, drained.positions)
            taken = len(drained.small) + len(drained.large)
            self._busy = self._busy or taken > 0
            if self._pending.full and not self._close_batch():
                return
            if not taken:
                return

    def _repeats(self) -> None:
        if self._parts or self._writer.blocked:
            return
        repeats = self._sensor.swap_repeats()
        for begin in range(0, len(repeats), DRAIN_RECORDS):
            self._pending.add(repeats[begin : begin + DRAIN_RECORDS], self._large_empty)
            if self._pending.full:
                self._close_batch()

    def _close_batch(self) -> bool:
        """Write what is pending, then let the kernel reuse the room. False: the disk has no room, all is kept."""
        if not self._parts:
            self._parts = self._pending.take(apart=self._late)
        while self._parts:
            part = self._parts[0]
            try:
                file = self._writer.write(
                    part.small, part.large, part.losses, part.positions, late=self._late
                )
            except SpoolError as e:
                log.debug("a batch waits in memory", extra={"reason": str(e)})
                return False
            del self._parts[0]
            self._sensor.commit(part.positions)
            self._sender.tell("spooled", file.name)
        return True

    def _listen(self) -> None:
        messages, deadly = self._sender.poll()
        self._hear(messages)
        if self._sender.stream_up:
            self._down_since = None
        elif self._down_since is None:
            self._down_since = time.monotonic()
        if deadly is not None:
            self._writer.corrupt(deadly, "the sender ended again and again while it read this batch", {})

    def _hear(self, messages: Sequence[list[Any] | bytes]) -> None:
        for message in messages:
            if isinstance(message, bytes):
                self._identity(message)
                continue
            what, *rest = message
            if what == "stream":
                self._sender.stream_up, self._sender.problem = rest
            elif what == "reading":
                self._sender.begins(rest[0])
            elif what == "sent":
                self._sender.begins(None)
                self._writer.sent(rest[0], rest[1])
            elif what == "stored":
                self._writer.stored(rest[0], rest[1])
            elif what == "quarantined":
                log.error("the collector set a batch aside", extra={"batch": rest[0], "reason": rest[2]})
                self._writer.quarantined(rest[0], rest[1])
            elif what == "corrupt":
                self._sender.begins(None)
                self._writer.corrupt(rest[0], rest[2], rest[1])

    def _identity(self, raw: bytes) -> None:
        """A record that the sender made: which model an instance is."""
        dtype = self._writer.layout.large
        if len(raw) == dtype.itemsize:
            self._pending.add(self._small_empty, np.frombuffer(raw, dtype, 1))
            if self._pending.full:
                self._close_batch()

    def _status(self) -> None:
        """Count what the kernel lost, and tell the sender how things stand."""
        self._proof.poll()
        counters = self._sensor.counters()
        self._writer.ledger.follow(counters)
        for cell, total in counters.items():
            if cell[0] in LOSS_HOPS:
                self._pending.add_loss(*cell, total - self._lost.get(cell, 0))
                self._lost[cell] = total
        # The kernel counts a drop before its gap can be read: more gaps than drops were lost in some other way.
        unexplained = self._gaps - sum(n for (hop, _), n in self._lost.items() if hop == "ring_dropped")
        if unexplained > 0:
            self._gaps -= unexplained
            self._writer.ledger.add("ring_dropped", {"all": unexplained})
            self._pending.add_loss("ring_dropped", "all", unexplained)
        self._sender.tell("status", self.status())

    def _tell_of_last_run(self) -> None:
        """Events that the kernel had counted and nobody had spooled went with the rings of an agent that was killed."""
        ledger = self._writer.ledger
        for kind in ledger.kinds("seen") | (ledger.kinds("drained") - MADE_HERE):
            lost = ledger.count("seen", kind) - ledger.count("ring_dropped", kind) - ledger.count("drained", kind)
            if lost > 0:
                log.warning("events were lost when the agent ended", extra={"kind": kind, "count": lost})
                ledger.add("ring_dropped", {kind: lost})
                self._pending.add_loss("ring_dropped", kind, lost)
            elif lost < 0:
                # The saved total is up to a second older than the last batch: what was drained was seen.
                ledger.add("seen", {kind: -lost})

    def status(self) -> dict[str, Any]:
        """For the heartbeat: the ledger of the hops on this host, doors, spool and problems."""
        waiting = self._pending.kinds()
        ledger = [
            (hop, kind, count + (waiting.pop(kind, 0) if hop == "drained" else 0))
            for hop, kind, count in self._writer.ledger.rows()
        ]
        ledger += [("drained", kind, count) for kind, count in waiting.items()]
        problems = [
            self._writer.disk_problem, self._writer.damage, self._sender.problem, self._proof.problem
        ]
        return {
            "ledger": ledger,
            "doors": self._proof.applied(self._sensor.doors()),
            "problems": [p for p in problems if p],
            "spool_bytes": self._writer.bytes,
            "last_number": self._writer.last_number,
            "uptime_ns": int((time.monotonic() - self._started) * 1e9),
        }

    def _finish(self) -> None:
        """Spool all there is, give the sender a moment to deliver it, and leave the spool as the next start wants it."""
        self._proof.stop()
        self._spool_all()
        self._writer.poll(force=True)
        self._sender.tell("status", self.status())
        self._hear(self._sender.stop(timeout_s=10.0))
        # What happened while the sender delivered goes with the next start.
        self._spool_all()
        self._writer.close()

    def _spool_all(self) -> None:
        self._drain()
        self._repeats()
        self._status()
        if self._parts or not self._pending.empty:
            self._close_batch()


def raise_priority() -> None:
    """Before other work on a busy host; objects made so far are never looked at again by the garbage collector."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    except OSError as e:
        log.warning("priority cannot be raised", extra={"reason": e.strerror})
    gc.collect()
    gc.freeze()
