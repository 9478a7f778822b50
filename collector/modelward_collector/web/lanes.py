"""The lanes of a workload's timeline: from its stored transitions to bars that never overlap, and effects on them.

A process has a lane of its own with its phase, and one for each load: a thread, a model instance. A load's lane begins with its
scope (``load``, then its tail), goes on with the phase of its process, and ends when the model is unloaded, the load fails or
the process exits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelward_collector.explain.words import cause, refused

Row = Mapping[str, Any]

_OPENS = frozenset({
    "artifact_open", "artifact_read", "artifact_map", "reopened", "probe_enter", "late"})
_HELD = frozenset({"serve", "stop"})
"""Phases that a process leaves for none of those before an answer."""


@dataclass(slots=True)
class Bar:
    """One phase of a lane. Times in nanoseconds since 1970."""

    phase: str
    scope: str
    begin: int
    end: int = 0
    why: str = ""
    """What made it begin, in words."""
    evidence: str = ""
    before: bool = False
    """It began before the span that is shown."""
    goes_on: bool = False


@dataclass(slots=True)
class Mark:
    """One effect on a lane."""

    time: int
    kind: str
    text: str
    phase: str = ""
    severity: str = ""
    detection: str = ""
    count: int = 1


@dataclass(slots=True)
class Lane:
    """A process (``instance`` 0), or one load in it. ``process`` is empty for effects of processes that have no lane."""

    process: str
    pid: int
    program: str
    thread: int = 0
    instance: int = 0
    model: str = ""
    digest: str = ""
    bars: list[Bar] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    ended: str = ""
    """How it ended, in words; empty while it goes on."""
    _now: Bar | None = None

    @property
    def phase(self) -> str:
        """Where it is."""
        return self._now.phase if self._now else ""

    @property
    def scoped(self) -> bool:
        """Whether its load is open or in its tail."""
        return self._now is not None and self._now.scope != "none"

    def turn(self, time: int, phase: str, scope: str = "none", why: str = "", evidence: str = "") -> None:
        """From here on it is in this phase; one that has ended stays ended."""
        if self.ended or (self._now and (self._now.phase, self._now.scope) == (phase, scope)):
            return
        self._close(time)
        if self.bars and (last := self.bars[-1]).end == time and (last.phase, last.scope) == (phase, scope):
            # What was between lasted no time.
            self._now = self.bars.pop()
        else:
            self._now = Bar(phase, scope, time, why=why, evidence=evidence)

    def end(self, time: int, how: str) -> None:
        """It is over."""
        if not self.ended:
            self._close(time)
            self.ended = how

    def finish(self, until: int, heard: int) -> None:
        """What is still on at the end of the span goes on beyond it; ``heard``: from then on its phase is unknown."""
        if self._now and heard < until:
            self.turn(max(heard, self._now.begin), "unknown", why="the host was not heard of any more")
        if self._now:
            self._now.goes_on = True
            self._close(until)

    def at(self, time: int) -> Bar | None:
        """The bar of a moment."""
        return next((bar for bar in reversed(self.bars) if bar.begin <= time <= bar.end), None)

    def _close(self, time: int) -> None:
        if self._now and time > self._now.begin:
            self._now.end = time
            self.bars.append(self._now)
        self._now = None


class Lanes:
    """Takes the rows of a workload in the order of time."""

    def __init__(self) -> None:
        self._processes: dict[str, Lane] = {}
        self._loads: dict[tuple[str, int, int], Lane] = {}
        self._of: dict[str, list[Lane]] = {}
        """Loads of each process."""

    def take(self, row: Row) -> None:
        """A row of kind lifecycle, or exit."""
        time = int(row["at"])
        if row["event_name"] == "exit":
            self._exit(row, time)
        elif refused(row):
            lane = self._process(row)
            lane.marks.append(Mark(time, "refused", cause(row), lane.phase))
        else:
            self._transition(row, time)

    def _exit(self, row: Row, time: int) -> None:
        process = self._processes.get(row["process_entity_id"])
        if process is None:
            return
        signal = int(row["process_exit_signal"])
        how = f"ended by signal {signal}" if signal else f"ended with status {row['process_exit_code']}"
        for lane in (process, *self._of.get(process.process, ())):
            lane.end(time, how)

    def _transition(self, row: Row, time: int) -> None:
        process, phase, scope = self._process(row), str(row["lifecycle_phase"]), str(row["lifecycle_scope"])
        said = (cause(row), str(row["lifecycle_evidence"]))
        instance = int(row["model_instance"])
        opens = phase == "load" and (scope == "open" or (scope == "none" and row["lifecycle_trigger"] in _OPENS))
        if instance and (opens or (scope == "tail" and phase != "stop")):
            lane = self._load(row, instance)
            lane.turn(time, "load", "tail" if scope == "tail" else "open", *said)
        elif instance:
            self._closes(row, time, instance, said)
        self._follow(process, row, time, phase, said)

    def _closes(self, row: Row, time: int, instance: int, said: tuple[str, str]) -> None:
        """A scope closes: well, or with all of the load. Another thread's row closes none, unless it ends the load."""
        thread, phase, trigger = int(row["thread_id"]), str(row["lifecycle_phase"]), row["lifecycle_trigger"]
        whole = trigger == "unload" or row["event_outcome"] == "failure"
        for lane in self._of.get(row["process_entity_id"], ()):
            if lane.instance != instance or (lane.scoped and lane.thread != thread and not whole):
                continue
            if trigger == "unload":
                lane.end(time, "unloaded")
            elif row["event_outcome"] == "failure":
                lane.end(time, "the load failed")
            elif trigger == "exit" and phase == "stop" and lane.scoped:
                lane.end(time, "the load was cut off")
            else:
                lane.turn(time, phase, "none", *said)

    def _follow(self, process: Lane, row: Row, time: int, phase: str, said: tuple[str, str]) -> None:
        """The phase of the process, and what follows from it for its loads."""
        loads = self._of.get(process.process, ())
        if row["lifecycle_trigger"] != "exec" and process.phase in _HELD and phase not in _HELD:
            return
        if any(lane.scoped for lane in loads) and phase in ("start", "load", "warmup"):
            phase = "load"
        process.turn(time, phase, "none", *said)
        if phase in _HELD:
            for lane in loads:
                if phase == "stop" or not lane.scoped:
                    lane.turn(time, phase, "none", *said)

    def _process(self, row: Row) -> Lane:
        key = str(row["process_entity_id"])
        lane = self._processes.get(key)
        if lane is None:
            lane = self._processes[key] = Lane(key, int(row["process_pid"]), _base(row["process_executable_path"]))
        lane.program = _base(row["process_executable_path"]) or lane.program
        return lane

    def _load(self, row: Row, instance: int) -> Lane:
        process = self._process(row)
        key = (process.process, int(row["thread_id"]), instance)
        lane = self._loads.get(key)
        if lane is None:
            lane = Lane(process.process, process.pid, process.program, key[1], instance, row["model_id"], row["model_digest"])
            self._loads[key] = lane
            self._of.setdefault(process.process, []).append(lane)
        return lane

    def finish(self, until: int, heard: int) -> None:
        """Nothing more is known. ``heard``: when the host was last heard of; from then on nothing is."""
        for lane in self._all():
            lane.finish(until, heard)

    def effect(self, mark: Mark, row: Row) -> None:
        """Put an effect on the lane of its thread, else of the load that its process came from, else of its process."""
        process = str(row["process_entity_id"])
        lane = next((lane for lane in self._of.get(process, ()) if lane.thread == int(row.get("thread_id") or 0)
                     and (bar := lane.at(mark.time)) and bar.scope != "none"), None)
        lane = lane or self._processes.get(process)
        origin = int(row.get("lifecycle_origin_instance") or 0)
        if lane is None and origin:
            lane = next((lane for lane in self._loads.values() if lane.instance == origin), None)
        lane = lane or self._processes.get(str(row.get("process_parent_entity_id") or ""))
        lane = lane or self._processes.get(str(row.get("process_root_id") or ""))
        if lane is None:
            lane = self._processes.setdefault("", Lane("", 0, ""))
        lane.marks.append(mark)

    def shown(self, since: int, most: int) -> tuple[list[Lane], int]:
        """Lanes with something in the span, each process before its loads; and how many there were, if more than ``most``.

        Of too many, those with detections stay, then those that changed last.
        """
        kept: list[Lane] = []
        for process in self._processes.values():
            loads = [lane for lane in self._of.get(process.process, ()) if _clip(lane, since)]
            if _clip(process, since) or loads:
                kept += [process, *loads]
        if len(kept) <= most:
            return kept, len(kept)
        best = sorted(kept, key=lambda lane: (any(m.detection for m in lane.marks), _last(lane)), reverse=True)[:most]
        stays = {id(lane) for lane in best}
        return [lane for lane in kept if id(lane) in stays], len(kept)

    def _all(self) -> Iterable[Lane]:
        yield from self._processes.values()
        yield from self._loads.values()


def _clip(lane: Lane, since: int) -> bool:
    """Cut off what was before the span; false when nothing is left."""
    lane.bars = [bar for bar in lane.bars if bar.end > since]
    for bar in lane.bars:
        if bar.begin < since:
            bar.begin, bar.before = since, True
    lane.marks = sorted((mark for mark in lane.marks if mark.time >= since), key=lambda mark: mark.time)
    return bool(lane.bars or lane.marks)


def _last(lane: Lane) -> int:
    return max([bar.begin for bar in lane.bars] + [mark.time for mark in lane.marks], default=0)


def _base(path: Any) -> str:
    return str(path).rpartition("/")[2]


def build(rows: Sequence[Row], since: int, until: int, heard: int) -> Lanes:
    """Lanes of rows (``at``: nanoseconds) that may lie before the span too: they say how it began."""
    lanes = Lanes()
    for row in sorted(rows, key=lambda row: int(row["at"])):
        if int(row["at"]) < until:
            lanes.take(row)
    lanes.finish(until, heard)
    return lanes
