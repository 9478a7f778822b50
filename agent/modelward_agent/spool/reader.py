"""The sender's side of the spool: which batch is next, and its content. Live batches go before those of an outage."""

from __future__ import annotations

import errno
import heapq
import logging
import time
from collections.abc import Iterable

from modelward_agent.spool.batch import CorruptBatch, Layout, SpooledBatch, decode, peek, written_checksum
from modelward_agent.spool.folder import BatchFile, Folder
from modelward_agent.spool.ranges import Range, within

log = logging.getLogger(__name__)

LIVE_PER_LATE = 8
"""While live batches wait, every ninth sent is one of an outage: late must not become never on a busy host."""
_PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR})


class SpoolBusy(Exception):
    """A batch cannot be read now, for want of memory or descriptors. It waits on."""


class SpoolReader:
    """What is spooled and not yet settled, in the order in which it is to be sent."""

    def __init__(self, folder: Folder, layout: Layout) -> None:
        self.folder = folder
        self.layout = layout
        self.last_number = 0
        self._files: dict[int, BatchFile] = {}
        self._live: list[int] = []
        self._late: list[int] = []
        self._queued: set[int] = set()
        self._live_run = 0
        self.scan()

    def scan(self) -> None:
        """Look through the folder: at start, and when a word of the drainer was missed."""
        for file, _ in self.folder.batches():
            if file.state in ("new", "sent"):
                self._add(file)

    def note(self, name: str) -> None:
        """The drainer says that it wrote this file."""
        file = BatchFile.parse(name)
        if file is None:
            return
        if file.number > self.last_number + 1:
            # The word of one before was lost while the line was full: nobody will say it again.
            self.scan()
        self._add(file)

    def waiting(self) -> int:
        """Batches not yet settled, those in flight included."""
        return len(self._files)

    def first_unacked(self) -> int:
        """No batch below is waiting."""
        return min(self._files, default=self.last_number + 1)

    def oldest_age_ns(self) -> int:
        """How long the lowest waiting batch has been waiting; 0 when none waits."""
        number = min(self._files, default=None)
        if number is None:
            return 0
        try:
            return max(0, time.time_ns() - self.folder.file(self._files[number]).stat().st_mtime_ns)
        except OSError:
            return 0

    def next(self) -> int | None:
        """Number of the batch to send now; None when nothing waits."""
        self._drop_stale(self._live)
        self._drop_stale(self._late)
        use_late = bool(self._late) and (not self._live or self._live_run >= LIVE_PER_LATE)
        lane = self._late if use_late else self._live
        if not lane:
            return None
        self._live_run = 0 if use_late else self._live_run + 1
        number = heapq.heappop(lane)
        self._queued.discard(number)
        return number

    def claim(self, number: int) -> SpooledBatch | None:
        """Take a batch for sending: the drainer will not evict it any more. None: it is gone already.

        Raises:
            SpoolBusy: it cannot be read now, and waits on.
            CorruptBatch: it cannot be read, and is no longer waiting.
        """
        file = self._files.get(number)
        if file is None:
            return None
        if file.state == "new":
            try:
                if not self.folder.rename(file, "sent"):
                    del self._files[number]
                    return None
                file = self._files[number] = file.to("sent")
            except OSError as e:
                # A full disk may refuse even a rename. To send it unclaimed is better than not to send it.
                log.debug("a batch cannot be claimed", extra={"batch": number, "reason": e.strerror})
        try:
            raw = self.folder.file(file).read_bytes()
            return decode(raw, self.layout, self.folder.epoch, number)
        except FileNotFoundError:
            del self._files[number]
            return None
        except CorruptBatch:
            del self._files[number]
            raise
        except OSError as e:
            if e.errno in _PASSING:
                self.again([number])
                raise SpoolBusy(e.strerror) from e
            del self._files[number]
            raise CorruptBatch(f"cannot be read: {e.strerror}") from e

    def kinds(self, number: int) -> dict[str, int]:
        """Events by kind of a batch that is not sent again, from its header alone."""
        file = self._files[number]
        try:
            return dict(peek(self.folder.file(file)).kinds)
        except CorruptBatch:
            return {"all": file.events}

    def checksum(self, number: int) -> int | None:
        """The checksum of a waiting batch's file; None when it cannot be read."""
        return written_checksum(self.folder.file(self._files[number]))

    def settle(self, number: int) -> None:
        """This batch is done with. The drainer removes the file."""
        self._files.pop(number, None)
        self._queued.discard(number)

    def held(self, ranges: Iterable[Range]) -> list[int]:
        """Those waiting batches that lie in the ranges."""
        return within(sorted(self._files), ranges)

    def again(self, numbers: Iterable[int]) -> None:
        """The stream broke: these were in flight and go out again."""
        for number in numbers:
            file = self._files.get(number)
            if file is not None:
                self._queue(file)

    def _add(self, file: BatchFile) -> None:
        self.last_number = max(self.last_number, file.number)
        if file.number not in self._files:
            self._files[file.number] = file
            self._queue(file)

    def _queue(self, file: BatchFile) -> None:
        if file.number not in self._queued:
            self._queued.add(file.number)
            heapq.heappush(self._late if file.late else self._live, file.number)

    def _drop_stale(self, lane: list[int]) -> None:
        while lane and lane[0] not in self._queued:
            heapq.heappop(lane)
