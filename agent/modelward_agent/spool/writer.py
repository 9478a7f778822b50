"""The drainer's side of the spool: numbers batches, writes them, keeps the byte bound and the counts.

A batch is written under a temporary name and renamed, so a file with a batch's name is complete even after ``kill -9``; what a
power loss tears, the CRC finds. Nothing here waits for the disk's cache (:mod:`modelward_agent.spool.sync`) or for the sender.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from modelward_proto.kinds import EVENT_NAMES, Kind

from modelward_agent.ledger import Ledger
from modelward_agent.sensor.progress import Progress
from modelward_agent.spool.batch import Contents, CorruptBatch, Layout, Loss, SpooledBatch, count_kinds, encode, peek
from modelward_agent.spool.batches import Batches
from modelward_agent.spool.folder import BatchFile, Buffers, SpoolError, disk_bytes
from modelward_agent.spool.state import RESERVE, open_spool
from modelward_agent.spool.sync import Syncer, SyncJob

log = logging.getLogger(__name__)

SYNC_EVERY_S = 1.0
SYNC_BYTES = 1 << 20
MAX_UNSYNCED = 256
MAX_BATCHES = 65536
LOSS = EVENT_NAMES[Kind.HOST_LOSS]
LOW_VALUE = frozenset({EVENT_NAMES[Kind.FILE_OPEN], EVENT_NAMES[Kind.PROCESS_FORK], LOSS})
"""A batch of these kinds alone goes first. Losses that it tells of are told again by the next batch."""
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


class SpoolFull(SpoolError):
    """There is no room for this batch now. The caller keeps its records and tries again later."""


class SpoolWriter:
    """Owner of a spool folder; one process at a time (the state folder's lock sees to that)."""

    def __init__(self, path: Path, layout: Layout, *, limit_bytes: int, boot_id: str) -> None:
        self.layout = layout
        self.limit_bytes = limit_bytes
        self.disk_problem = ""
        """What is wrong with the disk, in a sentence; empty when nothing."""
        self.damage = ""
        """The last batch that had to be set aside, in a sentence; empty when none was."""
        self._boot_id = boot_id
        self._losses: dict[tuple[str, str], int] = {}
        self._unsynced: list[int] = []
        self._unsynced_bytes = 0
        self._changed = True
        self._last_sync = time.monotonic()
        self._syncer = Syncer()
        self._batches = Batches()
        self._settled: dict[int, BatchFile] = {}
        self.folder, self._state = open_spool(path, boot_id)
        self.ledger = Ledger(self._state.ledger, self._state.totals)
        self._recover()
        self._saved = False
        """Whether this run is on disk. Before that, a power loss would make it reuse the numbers that it gives."""
        try:
            self._save()
        except SpoolFull as e:
            # An agent that is blind because a disk is full is worth less than one that says so.
            self.disk_problem = str(e)

    @property
    def bytes(self) -> int:
        """What batches that are not settled take on disk."""
        return self._batches.bytes

    @property
    def last_number(self) -> int:
        return self._state.last_number

    @property
    def first_unacked(self) -> int:
        """Every batch below is settled."""
        return self._batches.first(self._state.last_number + 1)

    @property
    def blocked(self) -> bool:
        """Draining more would only fill memory: leave records in the rings, where their loss is counted."""
        return len(self._unsynced) >= MAX_UNSYNCED or self.bytes > self.limit_bytes

    @property
    def progress(self) -> Mapping[str, Progress]:
        """How far rings are spooled, by their names."""
        return self._state.progress

    def begin(self, progress: Progress) -> None:
        """Batches of these rings are to come. From where on is on disk before the first of them is, unless the disk is full."""
        self._state.progress[progress.rings] = progress
        try:
            self._save()
        except SpoolError as e:
            self.disk_problem = str(e)

    def forget(self, rings: str) -> None:
        """These rings are gone."""
        self._state.progress.pop(rings, None)
        self.ledger.forget(rings)
        self._changed = True

    def write(
        self,
        small: np.ndarray[Any, Any],
        large: np.ndarray[Any, Any],
        losses: Sequence[Loss] = (),
        progress: Progress | None = None,
        *,
        late: bool = False,
    ) -> BatchFile:
        """Number a batch and write it. Its file is complete when this returns, and durable within a second.

        Raises:
            SpoolFull: the disk has no room, although everything that may be evicted was.
            SpoolError: the disk refuses for another reason.
        """
        lost = [*losses, *((hop, kind, count) for (hop, kind), count in self._losses.items())]
        kinds = count_kinds(small, large, lost)
        number = self._state.last_number + 1
        if number > self._state.reserved or not self._saved:
            self._save()
        now = time.time_ns()
        batch = SpooledBatch(
            epoch=self.folder.epoch, number=number, batch_time_ns=now,
            wall_offset_ns=now - time.clock_gettime_ns(time.CLOCK_BOOTTIME),
            small=small, large=large, losses=tuple(lost), late=late, checksum=0, boot_id=self._boot_id,
            kinds=kinds, progress=progress,
        )
        file = BatchFile(number, late, low=kinds.keys() <= LOW_VALUE, events=sum(kinds.values()), state="new")
        size = self._put(file, encode(batch, self.layout)[0])
        # What was evicted to make room for this very batch is told by the next one.
        for hop, kind, count in lost[len(losses):]:
            self._losses[hop, kind] -= count
        self._losses = {cell: count for cell, count in self._losses.items() if count}
        self._state.last_number = number
        if progress is not None:
            self._state.progress[progress.rings] = progress
        self.ledger.add("drained", kinds)
        self.ledger.add("spooled", kinds)
        self._batches.add(file, size)
        while (self.bytes > self.limit_bytes or len(self._batches) > MAX_BATCHES) and self._evict():
            pass
        return file

    def sent(self, number: int, kinds: Mapping[str, int]) -> None:
        """The sender hands this batch to a stream. A resend is not counted again."""
        if number in self._batches and number not in self._state.sent:
            self._batches.keep(number)
            self._state.sent.add(number)
            self.ledger.add("sent", kinds)
            self._changed = True

    def stored(self, number: int, kinds: Mapping[str, int]) -> None:
        """The collector holds this batch: the file may go."""
        self.sent(number, kinds)
        self._settle(number, "stored", kinds)

    def quarantined(self, number: int, kinds: Mapping[str, int]) -> None:
        """The collector set this batch aside for good: its events are lost."""
        self.sent(number, kinds)
        self._settle(number, "quarantined", kinds)

    def corrupt(self, number: int, reason: str, kinds: Mapping[str, int]) -> None:
        """A batch cannot be read: keep the file for a person, count its events as lost, and go on."""
        if number not in self._batches:
            return
        file = self._batches[number]
        if not (self.folder.rename(file.to("sent"), "corrupt") or self.folder.rename(file.to("new"), "corrupt")):
            return
        lost = dict(kinds) or {"all": file.events}
        log.error("a spooled batch cannot be read and is set aside", extra={"batch": number, "reason": reason})
        self.damage = f"batch {number} in the spool was damaged and is set aside in {self.folder.path}/corrupt: {reason}"
        self._settle(number, "evicted", lost)
        self._tell_loss(lost, [])

    def poll(self, *, force: bool = False) -> None:
        """Start and finish syncs. Call it often: it does not wait, unless ``force`` asks for all to be durable now."""
        if (job := self._syncer.wait() if force else self._syncer.finished()) is not None:
            self._finish(job)
        due = self._unsynced_bytes >= SYNC_BYTES or time.monotonic() - self._last_sync >= SYNC_EVERY_S
        if self._changed and not self._syncer.busy and (due or force):
            self._syncer.submit(self._job())
            if force and (job := self._syncer.wait()) is not None:
                self._finish(job)

    def close(self) -> None:
        """Make everything durable; the next start goes on from here."""
        self._state.clean = True
        self._changed = True
        self.poll(force=True)
        self._syncer.close()

    def _put(self, file: BatchFile, buffers: Buffers) -> int:
        """Write a batch file, evicting what may go while the disk has no room. Its bytes on disk."""
        while True:
            try:
                descriptor = self.folder.put(file, buffers)
                break
            except OSError as e:
                if e.errno not in _NO_ROOM:
                    self.disk_problem = f"cannot write to {self.folder.path}: {e.strerror}"
                    raise SpoolError(self.disk_problem) from e
                if not self._evict(at_once=True):
                    self.disk_problem = f"no room for events on the disk of {self.folder.path}: {e.strerror}"
                    raise SpoolFull(self.disk_problem) from e
                self.poll(force=True)
        self._unsynced.append(descriptor)
        status = os.fstat(descriptor)
        self._unsynced_bytes += status.st_size
        self._changed = True
        self.disk_problem = ""
        return disk_bytes(status)

    def _evict(self, *, at_once: bool = False) -> bool:
        """Drop the oldest batch that was never sent, of low value first. False: there is none.

        ``at_once``: give its room back now. A disk without any cannot take the state after which the file would be removed.
        """
        while (file := self._batches.first_to_go()) is not None:
            try:
                renamed = self.folder.rename(file, "evicted")
            except OSError as e:
                # A full disk may refuse even that. What was written before is not to be written again for it.
                self.disk_problem = f"cannot drop a batch of {self.folder.path}: {e.strerror}"
                return False
            self._batches.keep(file.number)
            # The sender may have claimed it in this moment; then it is on its way and no longer ours to drop.
            if renamed:
                lost = self._contents(file.to("evicted"))
                if at_once:
                    os.truncate(self.folder.file(file.to("evicted")), 0)
                self._settle(file.number, "evicted", lost.kinds)
                self._tell_loss(lost.kinds, lost.losses)
                return True
        return False

    def _tell_loss(self, kinds: Mapping[str, int], told: Sequence[Loss]) -> None:
        """The next batch will say that these events were lost, and what the lost batch itself had to say."""
        for hop, kind, count in [*told, *(("evicted", kind, n) for kind, n in kinds.items() if kind != LOSS)]:
            self._losses[hop, kind] = self._losses.get((hop, kind), 0) + count

    def _settle(self, number: int, hop: str, kinds: Mapping[str, int]) -> None:
        if number not in self._batches:
            return
        self._settled[number] = self._batches.remove(number)
        self._state.sent.discard(number)
        self._state.settled.add(number)
        self.ledger.add(hop, kinds)
        self._changed = True

    def _contents(self, file: BatchFile) -> Contents:
        """What a batch on disk holds; events of kind ``all`` when its header cannot be read."""
        try:
            return peek(self.folder.file(file))
        except CorruptBatch:
            return Contents({"all": file.events})

    def _recover(self) -> None:
        """Bring state and files together after whatever ended the last run."""
        last, done = self._state.last_number, self._state.settled
        self._state.settled = set()
        for file, size in sorted(self.folder.batches(), key=lambda item: item[0].number):
            if file.number in done:
                self.folder.remove(file)
                continue
            if file.number > last:
                contents = self._contents(file)
                self.ledger.add("drained", contents.kinds)
                self.ledger.add("spooled", contents.kinds)
                self._state.last_number = file.number
                if contents.progress is not None:
                    self._state.progress[contents.progress.rings] = contents.progress
            self._batches.add(file, size)
            if file.state in ("evicted", "corrupt"):
                self._settle(file.number, "evicted", self._contents(file).kinds)
        self._state.sent = self._batches.among(self._state.sent)
        if not self._state.clean and self._state.boot_id != self._boot_id:
            self._state.last_number = max(self._state.last_number, self._state.reserved)
        self._state.boot_id, self._state.clean = self._boot_id, False

    def _job(self) -> SyncJob:
        self._state.ledger, self._state.totals = self.ledger.rows(), self.ledger.totals()
        if self._state.last_number + RESERVE // 2 > self._state.reserved:
            self._state.reserved = self._state.last_number + RESERVE
        job = SyncJob(self._unsynced, self.folder.path, self._state.to_bytes(), set(self._state.settled))
        self._unsynced, self._unsynced_bytes, self._changed = [], 0, False
        self._last_sync = time.monotonic()
        return job

    def _save(self) -> None:
        """Save the state now; at start, and when the reserved numbers are used up."""
        if (running := self._syncer.wait()) is not None:
            self._finish(running)
        job = self._job()
        job.run()
        self._finish(job)
        if job.error is not None:
            error = SpoolFull if job.error.errno in _NO_ROOM else SpoolError
            raise error(f"cannot write to {self.folder.path}: {job.error.strerror}") from job.error

    def _finish(self, job: SyncJob) -> None:
        if job.error is not None:
            self.disk_problem = f"the spool in {self.folder.path} is not durable: {job.error.strerror}"
            log.error("the spool could not be made durable", extra={"reason": job.error.strerror})
            self._changed = True
            return
        self._saved = True
        for number in job.settled:
            self.folder.remove(self._settled.pop(number))
        if job.settled:
            self._state.settled -= job.settled
            self._changed = True
