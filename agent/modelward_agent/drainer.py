"""The main process: rings to spool. It waits for nobody: not for the disk's cache, not for the sender, not for the network.

A ring of 16 MiB lasts 63 ms at a million records a second, and a drain that came late because of other Python threads lost
records (measured): hence a process of its own, with raised priority and a frozen garbage collector.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from modelward_proto.kinds import EVENT_NAMES, Kind

from modelward_agent.hints.hint import Hint
from modelward_agent.hints.listening import Hints
from modelward_agent.pending import MAX_RECORDS, Part, Pending
from modelward_agent.proving import Proof
from modelward_agent.reading import Reading
from modelward_agent.sensor.errors import SensorError
from modelward_agent.spool.batch import count_kinds
from modelward_agent.spool.folder import SpoolError
from modelward_agent.spool.writer import SpoolWriter
from modelward_agent.supervise import SenderProcess
from modelward_agent.unbegun import Unbegun

if TYPE_CHECKING:
    from modelward_agent.sensor.progress import Progress
    from modelward_agent.sensor.sensor import DoorReport, Drained

log = logging.getLogger(__name__)

DRAIN_RECORDS = 512
DRAINS_AT_ONCE = 256
BUSY_WAIT_S = 0.005
"""A fixed time, not until something comes: a drain costs as much as copying 20 records, so few and large ones are cheap."""
IDLE_WAIT_S = 0.02
"""While nothing comes, looking less often is most of what an idle host pays; the largest ring lasts longer than this."""
QUIET_WAIT_S = 0.05
"""The same once nothing came for QUIET_AFTER_S: a burst at a million records a second still finds room in the ring."""
QUIET_AFTER_S = 1.0
TICK_S = 0.05
REPEATS_S = 1.0
STATUS_S = 1.0
LATE_AFTER_S = 2.0
"""A stream that was away for less did not make anybody wait: those batches are live."""
LOSS_HOPS = ("missed", "ring_dropped")
SPOOL_ALL_ROUNDS = 64
EMPTIED = "the state folder was emptied while hooks were pinned: what was spooled there and not delivered is lost"
UNBEGUN = ("{} loads of models that their content told were not begun: too many of one workload, or the kernel side did not take "
           "them")
UNREGISTERED = "{} files that belong to models were not told to the kernel side"
MADE_HERE = frozenset(EVENT_NAMES[kind] for kind in (Kind.MODEL_IDENTITY, Kind.HOST_LOSS))
"""Kinds that no kernel hook saw."""


class Source(Protocol):
    """What is asked of the sensor (:class:`modelward_agent.sensor.Sensor`)."""

    def progress(self) -> Progress: ...
    def resume(self, progress: Progress) -> None: ...
    def keep(self, progress: Progress) -> None: ...
    def predecessors(self) -> Sequence[Source]: ...
    def drain(self, max_records: int = ...) -> Drained: ...
    def commit(self, positions: Mapping[int, int]) -> None: ...
    def tick(self) -> None: ...
    def swap_repeats(self) -> Drained: ...
    def counters(self) -> dict[tuple[str, str], int]: ...
    def doors(self) -> Sequence[DoorReport]: ...
    def canary(self, id: str) -> None: ...
    def declare(self, hint: Hint) -> None: ...
    def register_artifacts(self, found: Iterable[tuple[int, int]]) -> int: ...
    def late_loads(self, found: Iterable[tuple[int, int, int, int, int]]) -> int: ...
    def detach(self) -> None: ...
    def close(self) -> None: ...
    def leave(self) -> None: ...


class Drainer:
    """Drains ``sensor`` into ``writer`` and looks after ``sender``."""

    def __init__(
        self, sensor: Source, writer: SpoolWriter, sender: SenderProcess, proof: Proof | None = None,
        mode: str = "watching", reason: str = "", hints: Hints | None = None,
    ) -> None:
        """``mode`` and ``reason``: what the heartbeat says of the hooks. ``hints``: what processes say of themselves."""
        self._sensor = sensor
        self._mode, self._reason = mode, reason
        self._writer = writer
        self._sender = sender
        self._nonsense = 0
        """How much the sender said that is no message."""
        self._unbegun = Unbegun()
        self._unregistered = 0
        """Files of models that the kernel side did not take."""
        self._proof = proof or Proof()
        self._hints = hints or Hints("")
        self._pending = Pending(writer.layout)
        self._parts: list[tuple[Reading, Part]] = []
        """Taken from ``pending`` and not written yet, because the disk refused."""
        self._started = time.monotonic()
        self._down_since: float | None = self._started
        self._tick_at = self._repeats_at = self._status_at = 0.0
        self._busy = False
        self._busy_at = self._started
        self._large_empty = np.empty(0, writer.layout.large)
        self._small_empty = np.empty(0, writer.layout.small)
        self._reading, self._next = self._begin(sensor)
        self._read_predecessors()

    def run(self, stopping: Callable[[], bool], *, keep_hooks: bool = False) -> None:
        """Until ``stopping()``, which is asked every round; then everything in the rings is spooled, and the sender has ended.

        ``keep_hooks``: they are to count on. Without, they are detached before the rings are read to their end.
        """
        # Objects made so far are never looked at again by the garbage collector.
        gc.collect()
        gc.freeze()
        while not stopping():
            time.sleep(self._wait_s())
            self.step()
        self._finish(keep_hooks)

    def _wait_s(self) -> float:
        if self._busy:
            return BUSY_WAIT_S
        return IDLE_WAIT_S if time.monotonic() - self._busy_at < QUIET_AFTER_S else QUIET_WAIT_S

    def replace_source(self, source: Source, mode: str, reason: str) -> None:
        """Go on with another source. The hooks of the one before are detached and its rings are spooled to their end; whoever
        opened it closes it."""
        self._read_predecessors()
        self._sensor.detach()
        self._spool_all()
        if not self._pending.empty:
            # What the disk does not take is still of the source that is left.
            self._parts += [(self._reading, part) for part in self._pending.take(apart=self._late)]
        self._sensor, self._mode, self._reason = source, mode, reason
        self._reading, self._next = self._begin(source)
        self._read_predecessors()
        self._status()

    def _begin(self, sensor: Source) -> tuple[Reading, list[Source]]:
        """What to read first, and what then: what other versions of the agent left goes before."""
        first, *then = [*sensor.predecessors(), sensor]
        present = {source.progress().rings for source in (first, *then)} - {""}
        known = set(self._writer.progress)
        # With no sensor at all, rings may still be pinned, and read some day.
        if present and not known & present:
            self._settle_lost()
        for rings in known - present if present else ():
            self._writer.forget(rings)
        return Reading(first, self._writer), then

    def _read_predecessors(self) -> None:
        """Read what other versions left, to the end, then go on with this one's. A disk without room makes it take longer."""
        while self._next:
            old = self._reading.source
            before = self._writer.last_number
            self._spool_all()
            if self._parts or not self._pending.empty or self._writer.blocked:
                return
            if self._writer.last_number == before:
                old.close()
                self._writer.forget(self._reading.progress.rings)
                self._reading = Reading(self._next.pop(0), self._writer)
                log.info("the rings of an earlier version are read to the end")

    def step(self) -> None:
        """One round: whatever is due now."""
        now = time.monotonic()
        if now >= self._tick_at:
            self._unbegun.give(self._sensor.late_loads, watching=self._mode == "watching")
            self._sensor.tick()
            self._tick_at = now + TICK_S
        self._hints.deliver(self._sensor)
        self._drain()
        if now >= self._repeats_at:
            self._repeats()
            self._repeats_at = now + REPEATS_S
        if self._parts or self._pending.due(late=self._late):
            self._close_batch()
        self._listen()
        self._writer.poll()
        if self._next:
            self._read_predecessors()
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
            drained = self._reading.drain(DRAIN_RECORDS)
            self._pending.add(drained.small, drained.large, drained.positions)
            taken = len(drained.small) + len(drained.large)
            if taken:
                self._busy, self._busy_at = True, time.monotonic()
            if self._pending.full and not self._close_batch():
                return
            if not taken:
                return

    def _repeats(self) -> None:
        """The counts of one swap go into one batch: they are read anew unless all of them are spooled."""
        if self._parts or self._writer.blocked:
            return
        repeats = self._reading.source.swap_repeats()
        if not len(repeats.small):
            if repeats.positions:
                self._reading.spooled(repeats.positions, {}, {})
            return
        if self._pending.records + len(repeats.small) > MAX_RECORDS and not self._close_batch():
            # They wait with the rest, behind what the disk does not take.
            self._parts.append((self._reading, Part(repeats.small, self._large_empty, (), repeats.positions, {})))
            return
        self._pending.add(repeats.small, self._large_empty, repeats.positions)
        if self._pending.full:
            self._close_batch()

    def _close_batch(self) -> bool:
        """Write what is pending, then let the kernel reuse the room. False: the disk has no room, all is kept."""
        if not self._parts and not self._pending.empty:
            self._parts = [(self._reading, part) for part in self._pending.take(apart=self._late)]
        while self._parts:
            reading, part = self._parts[0]
            taken = {kind: n for kind, n in count_kinds(part.small, part.large).items() if kind not in MADE_HERE}
            progress = reading.progress.after(part.positions, taken, part.told)
            try:
                file = self._writer.write(
                    part.small, part.large, part.losses, progress if progress.rings else None, late=self._late
                )
            except SpoolError as e:
                log.debug("a batch waits in memory", extra={"reason": str(e)})
                return False
            del self._parts[0]
            reading.spooled(part.positions, taken, part.told)
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
            try:
                self._obey(*message)
            except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as e:
                # The sender reads what workloads and the network say: whatever became of it, draining goes on.
                self._nonsense += 1
                log.debug("the sender said what is no message", extra={"reason": str(e)[:200]})

    def _obey(self, what: str, *rest: Any) -> None:
        """Do what a message of the sender says. Raises TypeError, ValueError, LookupError and so on: it is none."""
        if what == "stream":
            up, problem = rest
            self._sender.stream_up, self._sender.problem = bool(up), str(problem)
        elif what == "reading":
            self._sender.begins(None if rest[0] is None else _u64(rest[0]))
        elif what == "sent":
            self._sender.begins(None)
            self._writer.sent(_u64(rest[0]), _counts(rest[1]))
        elif what == "stored":
            self._writer.stored(_u64(rest[0]), _counts(rest[1]))
        elif what == "quarantined":
            number, kinds, reason = _u64(rest[0]), _counts(rest[1]), str(rest[2])
            log.error("the collector set a batch aside", extra={"batch": number, "reason": reason})
            self._writer.quarantined(number, kinds)
        elif what == "corrupt":
            self._sender.begins(None)
            self._writer.corrupt(_u64(rest[0]), str(rest[2]), _counts(rest[1]))
        elif what == "artifacts":
            files = [(_u32(device), _u64(inode)) for device, inode in rest[0]]
            taken = self._sensor.register_artifacts(files)
            if self._mode == "watching":
                self._unregistered += len(files) - taken
        elif what == "late":
            self._unbegun.add([(_u32(tgid), _u32(tid), _u32(device), _u64(inode), _u64(group))
                               for tgid, tid, device, inode, group in rest[0]])
        elif what == "canary":
            self._sender.tell("result", str(rest[0]), self._canary(str(rest[0])))
        else:
            raise ValueError(f"unknown: {what[:32]}")

    def _canary(self, id: str) -> str:
        """Provoke the effect of a test alert. Empty when it was done, else why not."""
        try:
            self._sensor.canary(id)
        except (SensorError, OSError, ValueError) as e:
            return str(e)
        return ""

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
        counters = self._reading.source.counters()
        self._writer.ledger.follow(self._reading.progress.rings, counters)
        for (hop, kind), total in counters.items():
            if hop in LOSS_HOPS:
                self._pending.add_loss(hop, kind, *self._reading.lost(hop, kind, total))
        if unexplained := self._reading.unexplained():
            self._writer.ledger.add("ring_dropped", {"all": unexplained})
            self._pending.add_loss("ring_dropped", "all", unexplained)
        self._sender.tell("status", self.status())

    def _settle_lost(self) -> None:
        """Events that the kernel had counted and nobody had spooled went with their rings: in a reboot, or with an agent that was
        killed where nothing can be pinned."""
        ledger = self._writer.ledger
        waiting = self._waiting()
        for kind in ledger.kinds("seen") | (ledger.kinds("drained") - MADE_HERE):
            here = ledger.count("drained", kind) + waiting.get(kind, 0)
            lost = ledger.count("seen", kind) - ledger.count("ring_dropped", kind) - here
            if lost > 0:
                log.warning("events were lost when the agent ended", extra={"kind": kind, "count": lost})
                ledger.add("ring_dropped", {kind: lost})
                self._pending.add_loss("ring_dropped", kind, lost)
            elif lost < 0:
                # The saved total is up to a second older than the last batch: what was drained was seen.
                ledger.add("seen", {kind: -lost})

    def _waiting(self) -> dict[str, int]:
        """Events by kind that are in memory only."""
        waiting = self._pending.kinds()
        for _, part in self._parts:
            for kind, count in count_kinds(part.small, part.large).items():
                waiting[kind] = waiting.get(kind, 0) + count
        return waiting

    def status(self) -> dict[str, Any]:
        """For the heartbeat: the ledger of the hops on this host, doors, spool and problems."""
        waiting = self._waiting()
        ledger = [
            (hop, kind, count + (waiting.pop(kind, 0) if hop == "drained" else 0))
            for hop, kind, count in self._writer.ledger.rows()
        ]
        ledger += [("drained", kind, count) for kind, count in waiting.items()]
        emptied = EMPTIED if self._reading.orphaned else ""
        problems = [
            self._writer.disk_problem, self._writer.damage, emptied, self._sender.problem, self._proof.problem, self._garbled(),
            *self._not_taken(),
        ]
        return {
            "ledger": ledger,
            # What processes say of themselves reaches nobody while there is no kernel side.
            "doors": self._proof.applied([*self._sensor.doors(), *(self._hints.doors() if self._mode == "watching" else ())]),
            "problems": [p for p in problems if p],
            "spool_bytes": self._writer.bytes,
            "last_number": self._writer.last_number,
            "uptime_ns": int((time.monotonic() - self._started) * 1e9),
            "mode": self._mode,
            "mode_reason": self._reason,
        }

    def _not_taken(self) -> list[str]:
        """What became known of models and did not reach the kernel side. While it watches nothing there is none to reach."""
        if self._mode != "watching":
            return []
        counted = ((UNBEGUN, self._unbegun.lost), (UNREGISTERED, self._unregistered))
        return [text.format(count) for text, count in counted if count]

    def _garbled(self) -> str:
        count = self._nonsense + self._sender.garbled
        return f"the sender said {count} times what is no message: what it meant is lost" if count else ""

    def _finish(self, keep_hooks: bool) -> None:
        """Spool all there is, give the sender a moment to deliver it, and leave the spool as the next start wants it."""
        self._proof.stop()
        self._spool_all()
        self._writer.poll(force=True)
        self._sender.tell("status", self.status())
        self._hear(self._sender.stop(timeout_s=10.0))
        # What happened while the sender delivered goes with the next start.
        if not keep_hooks:
            self._sensor.detach()
        self._read_predecessors()
        self._spool_all()
        self._writer.close()

    def _spool_all(self) -> None:
        """Everything that the source being read has now; a drain takes a bounded part, and repeats come in two generations."""
        for _ in range(SPOOL_ALL_ROUNDS):
            before = self._writer.last_number
            self._drain()
            self._repeats()
            # A batch may hold the counts of one generation, and only once it is written can the other be read.
            if not self._close_batch() or (not self._busy and self._writer.last_number == before):
                break
        self._status()
        self._close_batch()


def _u32(value: Any) -> int:
    return _whole(value, 1 << 32)


def _u64(value: Any) -> int:
    return _whole(value, 1 << 64)


def _counts(value: Any) -> dict[str, int]:
    """Events by kind. Raises ValueError, AttributeError: it is something else."""
    return {str(kind): _u64(count) for kind, count in value.items()}


def _whole(value: Any, end: int) -> int:
    """Raises ValueError: it is no number below ``end``."""
    if type(value) is not int or not 0 <= value < end:
        raise ValueError("no number of the kernel's")
    return value
