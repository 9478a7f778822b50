"""Which opened files might be models although neither their names nor the kernel side say so: what is to be looked into."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from modelward_proto.fields import Kind

from modelward_agent.enrich.attribution import READER, Who
from modelward_agent.enrich.rows import Rows, flagged
from modelward_agent.identity.recogniser import File, Opened
from modelward_agent.sensor.constants import Flag, Outcome, Segment

Column = npt.NDArray[Any]

_READ = 1
"""``access`` of an open for reading alone; more than that is for writing."""
_EACH = 128
"""Of one workload in one batch: what is more is passed over, and counted."""
_WRITTEN = 512
_ENDING = 8
_VERSION = 16

# What interpreters and the linker open by the thousand. A model under such a name is not looked for, unless the kernel side sees
# its first bytes.
_ENDINGS = (
    b".py", b".pyc", b".pyi", b".pyx", b".pxd", b".so", b".a", b".h", b".hpp", b".c", b".cc", b".cpp", b".cu", b".cuh", b".js",
    b".css", b".html", b".md", b".rst", b".toml", b".cfg", b".ini", b".conf", b".yaml", b".yml", b".mo", b".pem", b".crt",
    b".ttf", b".png", b".svg", b"METADATA", b"/RECORD", b"PKG-INFO", b".pth", b".cache",
)  # fmt: skip
_FOLDERS = (b"/proc/", b"/sys/")


class Candidates:
    """Found batch by batch, by whole columns: Python looks only at what is to be looked into."""

    def __init__(self) -> None:
        self._opened: list[Opened] = []
        self._written: list[File] = []
        self._passed_over = 0

    def take(self) -> tuple[list[Opened], list[File], int]:
        """Since the last call: files to be looked into, files opened for writing, and how many were passed over."""
        taken = self._opened, self._written, self._passed_over
        self._opened, self._written, self._passed_over = [], [], 0
        return taken

    def find(self, rows: Rows, flags: Column, whos: list[Who], run: Column) -> None:
        """Take note of a batch's opens."""
        access, inode, outcome = (rows.column(name) for name in ("access", "inode", "outcome"))
        opened = (rows.kind == Kind.FILE_OPEN) & (outcome != int(Outcome.FAILURE)) & (rows.column("group") != 0)
        self._note_written(rows, np.flatnonzero(opened & (access > _READ) & (inode != 0)))
        starts, lengths = rows.spans(Segment.PATH)
        # io_uring's opens are told when they are asked for: which file that gives, the name alone says.
        known = (inode != 0) | (outcome == int(Outcome.ATTEMPTED))
        at = np.flatnonzero(opened & (access == _READ) & known & ~flagged(flags, Flag.ARTIFACT) & (lengths > 0))
        at = at[~ruled_out(rows.bytes, starts[at], lengths[at])] if len(at) else at
        if not len(at):
            return
        workloads = _workloads(whos, run[at])
        at, workloads = at[workloads >= 0], workloads[workloads >= 0]
        first = _first_sights(rows, inode, at)
        at, workloads = at[first], workloads[first]
        kept = _first_of_each(workloads, _EACH)
        self._passed_over += len(at) - int(kept.sum())
        for row in at[kept].tolist():
            self._opened.append(_opened(rows, row, whos[run[row]].workload_id))

    def _note_written(self, rows: Rows, at: Column) -> None:
        if len(at):
            files = np.stack((rows.column("device")[at].astype(np.uint64), rows.column("inode")[at]), axis=1)
            self._written += [(device, inode) for device, inode in np.unique(files, axis=0)[:_WRITTEN].tolist()]


def ruled_out(flat: Column, starts: Column, lengths: Column) -> Column:
    """Whether a path is one that no model is looked for under.

    Args:
        flat: bytes (n,) u8 in which the paths lie.
        starts: offset of each path in ``flat``.
        lengths: its length in bytes.
    """
    begins = _packed(flat, starts, np.minimum(lengths, _ENDING), at_end=False)
    out = np.zeros(len(starts), np.bool_)
    for folder in _FOLDERS:
        out |= (begins >> np.uint64(8 * (_ENDING - len(folder)))) == int.from_bytes(folder, "big")
    ends = _packed(flat, starts, lengths - _version(flat, starts, lengths), at_end=True)
    for ending in _ENDINGS:
        bits = 8 * len(ending)
        mask = np.uint64((1 << bits) - 1)
        out |= (ends & mask) == int.from_bytes(ending, "big")
    return out


def _window(flat: Column, offsets: Column, within: Column) -> Column:
    """The bytes at these offsets, (n, m); 0 where ``within`` is false."""
    taken: Column = np.where(within, flat[np.clip(offsets, 0, max(0, len(flat) - 1))], np.uint8(0))
    return taken


def _packed(flat: Column, starts: Column, lengths: Column, *, at_end: bool) -> Column:
    """The first or last 8 bytes of each text as one number, the text's last byte lowest; first ones begin with the highest."""
    steps = np.arange(_ENDING)
    from_start = steps[None, :] + (lengths[:, None] - _ENDING if at_end else 0)
    window = _window(flat, starts[:, None] + from_start, (from_start >= 0) & (from_start < lengths[:, None]))
    packed: Column = np.ascontiguousarray(window).view(">u8")[:, 0].astype(np.uint64)
    return packed


def _version(flat: Column, starts: Column, lengths: Column) -> Column:
    """How many digits and dots a text ends in: libraries have their versions there."""
    from_end = np.arange(1, _VERSION + 1)[None, :]
    window = _window(flat, starts[:, None] + lengths[:, None] - from_end, from_end <= lengths[:, None])
    ours = ((window >= ord("0")) & (window <= ord("9"))) | (window == ord("."))
    count: Column = np.logical_and.accumulate(ours, axis=1).sum(axis=1)
    return count


def _workloads(whos: list[Who], run: Column) -> Column:
    """A number for each row's workload; -1 where there is none, or its process only reads files and cannot run a model."""
    numbers: dict[str, int] = {}
    of_run: dict[int, int] = {}
    for r in np.unique(run).tolist():
        name = whos[r].workload_id if whos[r].entry != READER else ""
        of_run[r] = numbers.setdefault(name, len(numbers)) if name else -1
    table = np.full(max(of_run) + 1, -1, np.int64)
    table[list(of_run)] = list(of_run.values())
    found: Column = table[run]
    return found


def _first_sights(rows: Rows, inode: Column, at: Column) -> Column:
    """Where in ``at`` each process is first seen to open each file."""
    keys = np.zeros((len(at), 3), np.uint64)
    keys[:, 0] = rows.column("tgid")[at]
    keys[:, 1] = inode[at]
    # Files that are known by name alone are each one of its own.
    keys[:, 2] = np.where(inode[at] != 0, rows.column("device")[at], at)
    first: Column = np.sort(np.unique(keys, axis=0, return_index=True)[1])
    return first


def _first_of_each(workloads: Column, most: int) -> Column:
    """Which rows are among the first so many of their workload."""
    order = np.argsort(workloads, kind="stable")
    ordered = workloads[order]
    begins = np.searchsorted(ordered, ordered, side="left")
    kept = np.zeros(len(workloads), np.bool_)
    kept[order] = np.arange(len(workloads)) - begins < most
    return kept


def _opened(rows: Rows, row: int, workload: str) -> Opened:
    pid, tid, start_ns, group, device, inode = (
        rows.member(name, row) for name in ("tgid", "tid", "start_ns", "group", "device", "inode"))
    return Opened(pid, tid, start_ns, group, rows.raw(row, Segment.PATH), rows.raw(row, Segment.ASKED), device, inode, workload)
