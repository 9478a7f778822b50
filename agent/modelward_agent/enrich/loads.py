"""Which artifact began which model instance: what identification is asked for, and which folders hold a
workload's models."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import numpy.typing as npt
from modelward_proto.fields import Kind

from modelward_agent.enrich.attribution import Who
from modelward_agent.enrich.rows import Rows, flagged
from modelward_agent.enrich.workloads import Workloads
from modelward_agent.identity.artifact import Artifact
from modelward_agent.sensor.constants import Flag, Segment

Column = npt.NDArray[Any]

_INSTANCES = 65536
_WAITING = 4096


class Loads:
    """Each instance is asked for once: its first artifact names it, the first shard of a sharded set too."""

    def __init__(self) -> None:
        self._known: OrderedDict[int, None] = OrderedDict()
        self._waiting: list[Artifact] = []

    def take(self) -> list[Artifact]:
        """Artifacts found since the last call."""
        waiting, self._waiting = self._waiting, []
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
        for row in at[np.sort(np.unique(instance[at], return_index=True)[1])].tolist():
            self._ask(rows, row, int(instance[row]), of_open=bool(opened[row]))

    @staticmethod
    def _pairs(instance: Column, run: Column) -> Column:
        pairs: Column = instance ^ (run.astype(np.uint64) << np.uint64(48))
        return pairs

    def _ask(self, rows: Rows, row: int, instance: int, *, of_open: bool) -> None:
        if instance in self._known or len(self._waiting) >= _WAITING:
            return
        self._known[instance] = None
        if len(self._known) > _INSTANCES:
            self._known.popitem(last=False)
        inode, device = ("inode", "device") if of_open else ("artifact_inode", "artifact_device")
        self._waiting.append(
            Artifact(
                instance=instance,
                pid=int(rows.member("tgid", row)),
                start_ns=int(rows.member("start_ns", row)),
                path=rows.raw(row, Segment.PATH),
                asked=rows.raw(row, Segment.ASKED) if of_open else b"",
                device=int(rows.member(device, row)),
                inode=int(rows.member(inode, row)),
                time_ns=int(rows.time_ns[row]),
                header=rows.header(row),
            )
        )
