"""The batches that are on disk and not settled: what they take, and which of them may go when the spool is full."""

from __future__ import annotations

from modelward_agent.spool.folder import BatchFile


class Batches:
    """By number. In the order in which they were added, the oldest is the first."""

    def __init__(self) -> None:
        self.bytes = 0
        """What they take on disk."""
        self._files: dict[int, tuple[BatchFile, int]] = {}
        self._low: dict[int, None] = {}
        self._high: dict[int, None] = {}

    def __len__(self) -> int:
        return len(self._files)

    def __contains__(self, number: object) -> bool:
        return number in self._files

    def __getitem__(self, number: int) -> BatchFile:
        return self._files[number][0]

    def first(self, otherwise: int) -> int:
        """The lowest number; ``otherwise`` when there is none."""
        return min(self._files, default=otherwise)

    def among(self, numbers: set[int]) -> set[int]:
        """Those of these numbers that are here."""
        return numbers & self._files.keys()

    def add(self, file: BatchFile, size: int) -> None:
        """One that takes ``size`` bytes on disk."""
        self._files[file.number] = (file, size)
        self.bytes += size
        if file.state == "new":
            (self._low if file.low else self._high)[file.number] = None

    def keep(self, number: int) -> None:
        """This one is on its way: it may not go any more."""
        self._low.pop(number, None)
        self._high.pop(number, None)

    def first_to_go(self) -> BatchFile | None:
        """The oldest that was never sent, of low value first."""
        for waiting in (self._low, self._high):
            if waiting:
                return self[next(iter(waiting))]
        return None

    def remove(self, number: int) -> BatchFile:
        """This one is settled."""
        self.keep(number)
        file, size = self._files.pop(number)
        self.bytes -= size
        return file
