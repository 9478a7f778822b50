"""Which artifact began which model instance: what identification is asked for, and which folders hold a
workload's models."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Any

import numpy as np
import numpy.typing as npt
from modelward_proto.fields import Kind

from modelward_agent.enrich.attribution import Who
from modelward_agent.enrich.rows import Rows, flagged
from modelward_agent.enrich.workloads import Workloads
from modelward_agent.identity.artifact import Artifact
from modelward_agent.identity.members import FILES
from modelward_agent.sensor.constants import Flag, Segment

Column = npt.NDArray[Any]

_INSTANCES = 65536
_FILES = 131072
_WAITING = 4096
_EACH = 2 * FILES
"""Of one workload, in one batch: more of it is asked for when it opens it again."""

File = tuple[int, int]
"""Device and inode."""


class Loads:
    """Each file of an instance is asked for once: the first names it, the others are parts of it. Of an instance with more
    files than are read one more than that is asked for, so that it is known."""

    def __init__(self) -> None:
        self._known: OrderedDict[int, set[File]] = OrderedDict()
        self._files = 0
        self._waiting: list[Artifact] = []
        self._asked: Counter[str] = Counter()

    def take(self) -> list[Artifact]:
        """Artifacts found since the last call."""
        waiting, self._waiting = self._waiting, []
        self._asked.clear()
        return waiting

    def find(self, rows: Rows, flags: Column, whos: list[Who], run: Column, workloads: Workloads) -> None:
        """Take note of the artifacts that a batch's rows opened, or that an adopted server had open."""
        instance = rows.column("instance")
        lengths = rows.spans(Segment.PATH)[1]
        opened = (rows.kind == Kind.FILE_OPEN) & flagged(flags, Flag.ARTIFACT)
        adopted = (rows.kind == Kind.LIFECYCLE) & (rows.column("artifact_inode") != 0)
        at = np.flatnonzero((opened | adopted) & (instance != 0) & (lengths > 0))
        if not len(at):
            return
        for row in at[np.unique(self._pairs(instance, run)[at], return_index=True)[1]].tolist():
            workload = whos[run[row]].workload
            if workload is not None:
                workloads.loaded(workload, rows.raw(row, Segment.PATH))
        for row in at[np.sort(self._first_sights(rows, instance, at, opened))].tolist():
            self._ask(rows, row, int(instance[row]), whos[run[row]].workload_id, of_open=bool(opened[row]))

    @staticmethod
    def _pairs(instance: Column, run: Column) -> Column:
        pairs: Column = instance ^ (run.astype(np.uint64) << np.uint64(48))
        return pairs

    @staticmethod
    def _first_sights(rows: Rows, instance: Column, at: Column, opened: Column) -> Column:
        """Where in ``at`` each file of each instance is seen first."""
        keys = np.zeros((len(at), 3), np.uint64)
        keys[:, 0] = instance[at]
        keys[:, 1] = np.where(opened[at], rows.column("inode")[at], rows.column("artifact_inode")[at])
        keys[:, 2] = np.where(opened[at], rows.column("device")[at], rows.column("artifact_device")[at])
        first: Column = np.unique(keys, axis=0, return_index=True)[1]
        return first

    def _ask(self, rows: Rows, row: int, instance: int, workload: str, *, of_open: bool) -> None:
        inode, device = ("inode", "device") if of_open else ("artifact_inode", "artifact_device")
        file = (int(rows.member(device, row)), int(rows.member(inode, row)))
        files = self._known.get(instance)
        if files is not None and (file in files or len(files) > FILES):
            return
        if len(self._waiting) >= _WAITING or self._asked[workload] >= _EACH:
            return
        self._asked[workload] += 1
        if files is None:
            files = self._known[instance] = set()
        files.add(file)
        self._files += 1
        while len(self._known) > _INSTANCES or self._files > _FILES:
            self._files -= len(self._known.popitem(last=False)[1])
        self._waiting.append(
            Artifact(
                instance=instance,
                pid=int(rows.member("tgid", row)),
                start_ns=int(rows.member("start_ns", row)),
                path=rows.raw(row, Segment.PATH),
                asked=rows.raw(row, Segment.ASKED) if of_open else b"",
                device=file[0],
                inode=file[1],
                time_ns=int(rows.time_ns[row]),
                header=rows.header(row),
                workload=workload,
            )
        )
