"""Cuts the rows of a batch into runs of one process between two execs, so that Python looks at each run
once."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from modelward_proto.fields import PHASES
from modelward_proto.kinds import Kind

from modelward_agent.enrich.attribution import Sighting
from modelward_agent.enrich.rows import Rows, flagged
from modelward_agent.sensor.constants import Flag

Column = npt.NDArray[Any]

_ROOT, _SERVER = int(Flag.ROOT), int(Flag.SERVER)
_WARMUP, _SERVE = PHASES.index("warmup"), PHASES.index("serve")
_MEMBERS = (
    "tgid",
    "start_ns",
    "parent_tgid",
    "parent_start_ns",
    "root_tgid",
    "root_start_ns",
    "group",
    "cgroup",
)

# Multipliers nobody can know: a workload cannot make two processes fall into one run.
_MIX = tuple(np.uint64(secrets.randbits(64) | 1) for _ in range(12))


class Sightings:
    """The runs, in order of their first row."""

    def __init__(self, rows: Rows, flags: Column) -> None:
        fork = (rows.kind == Kind.PROCESS_FORK) & ~flagged(flags, Flag.THREAD)
        # A canary is a program that runs and ends, told by one record.
        canary = rows.kind == Kind.HOST_CANARY
        execd = (rows.kind == Kind.PROCESS_EXEC) | canary
        self.exec_rows: Column = np.flatnonzero(execd)
        self.fork_rows: Column = np.flatnonzero(fork)
        self.exit_rows: Column = np.flatnonzero((rows.kind == Kind.PROCESS_EXIT) | canary)
        self.epoch: Column = np.cumsum(execd)
        self._own: dict[str, Column] = {name: rows.column(name) for name in _MEMBERS}
        self._own["flags"] = flags & np.uint32(_ROOT | _SERVER)
        self._time = rows.time_ns
        phase = rows.column("phase")
        self._loaded: Column = (phase == _WARMUP) | (phase == _SERVE)
        self._shown = self._own
        if len(self.fork_rows):
            self._shown = self._children_of_forks(rows)
        self._find()

    def sighting(self, run: int) -> Sighting:
        """What the records of a run say of its process (of the child, in a fork row)."""
        return replace(self._sighting(self._shown, int(self.first[run])), ready=bool(self._ready[run]))

    def actor(self, row: int) -> Sighting:
        """Who made the record of one row: the parent, in a fork row."""
        return self._sighting(self._own, row)

    @property
    def pid(self) -> Column:
        """Thread group id that each row is about."""
        return self._shown["tgid"]

    @property
    def start_ns(self) -> Column:
        """Its start time."""
        return self._shown["start_ns"]

    @property
    def parent_pid(self) -> Column:
        """That process's parent."""
        return self._shown["parent_tgid"]

    def _children_of_forks(self, rows: Rows) -> dict[str, Column]:
        """A fork row is about the child: its process is the child, its parent the process that forked."""
        shown = {name: values.copy() for name, values in self._own.items()}
        at = self.fork_rows
        shown["parent_tgid"][at] = self._own["tgid"][at]
        shown["parent_start_ns"][at] = self._own["start_ns"][at]
        shown["tgid"][at] = rows.column("child_tgid")[at]
        shown["start_ns"][at] = rows.column("child_start_ns")[at]
        shown["flags"][at] &= np.uint32(_SERVER)
        return shown

    def _find(self) -> None:
        mixed = self.epoch.astype(np.uint64) * _MIX[0]
        for factor, values in zip(_MIX[1:], self._shown.values(), strict=False):
            mixed = (mixed ^ values.astype(np.uint64)) * factor
            mixed ^= mixed >> np.uint64(31)
        different, first, run = np.unique(mixed, return_index=True, return_inverse=True)
        by_first = np.argsort(first, kind="stable")
        place = np.empty(len(different), np.int64)
        place[by_first] = np.arange(len(different))
        self.first: Column = first[by_first]
        self.run: Column = place[run]
        self._ready: Column = np.zeros(len(different), np.bool_)
        self._ready[self.run[self._loaded]] = True

    def _sighting(self, columns: dict[str, Column], row: int) -> Sighting:
        at = {name: int(values[row]) for name, values in columns.items()}
        return Sighting(
            key=(at["tgid"], at["start_ns"]),
            parent=(at["parent_tgid"], at["parent_start_ns"]),
            root=(at["root_tgid"], at["root_start_ns"]),
            group=at["group"],
            cgroup=at["cgroup"],
            is_root=bool(at["flags"] & _ROOT),
            is_server=bool(at["flags"] & _SERVER),
            time_ns=int(self._time[row]),
        )
