"""The columns that say who did it, made by replaying a batch's exec, fork and exit records between its
rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from modelward_proto.text import escape

from modelward_agent.enrich.attribution import Attribution, Who
from modelward_agent.enrich.columns import closed, shared
from modelward_agent.enrich.rows import Rows
from modelward_agent.enrich.sightings import Sightings
from modelward_agent.enrich.text_columns import clip
from modelward_agent.sensor.constants import Segment

Column = npt.NDArray[Any]

_REPEATED = ("path", "command_line", "parent_path", "chain")
_REPEATED_BYTES = 16 << 20
"""Of those texts in one batch: thousands of processes with long names would make a batch that no collector takes."""


def replay(rows: Rows, runs: Sightings, boot: Attribution) -> tuple[list[Who], dict[int, str]]:
    """Feed the process table in time order.

    Returns:
        Who each run is, as of its time, and the whole command line of each exec row.
    """
    lines: dict[int, str] = {}
    whos: list[Who] = []
    execs, forks, exits = runs.exec_rows.tolist(), runs.fork_rows.tolist(), runs.exit_rows.tolist()
    fork_epochs, exit_epochs = runs.epoch[runs.fork_rows].tolist(), runs.epoch[runs.exit_rows].tolist()
    run_epochs = runs.epoch[runs.first].tolist()
    will_exec = {runs.actor(row).key: row for row in reversed(execs)}
    fork = exit_ = 0

    def executed(row: int) -> str:
        line = rows.raw(row, Segment.ARGV)
        arguments = line.removesuffix(b"\0").split(b"\0") if line else []
        return boot.executed(runs.actor(row), rows.raw(row, Segment.PATH), arguments, rows.raw(row, Segment.ASKED))

    for epoch in range(len(execs) + 1):
        if epoch:
            lines[execs[epoch - 1]] = executed(execs[epoch - 1])
        while fork < len(forks) and fork_epochs[fork] == epoch:
            child = (int(runs.pid[forks[fork]]), int(runs.start_ns[forks[fork]]))
            boot.forked(runs.actor(forks[fork]), child)
            fork += 1
        while len(whos) < len(run_epochs) and run_epochs[len(whos)] == epoch:
            sighting = runs.sighting(len(whos))
            later = will_exec.get(sighting.key)
            if later is not None and not boot.knows(sighting):
                # A group's first record tells of its start, just before the exec that made it one.
                executed(later)
            whos.append(boot.who(sighting, will_exec=later is not None))
        while exit_ < len(exits) and exit_epochs[exit_] == epoch:
            boot.table.exited(runs.actor(exits[exit_]).key, int(rows.time_ns[exits[exit_]]))
            exit_ += 1
    if rows.records:
        boot.table.expire(int(rows.time_ns[rows.records - 1]))
    return whos, lines


def process_columns(rows: Rows, runs: Sightings, whos: list[Who], lines: dict[int, str]) -> dict[str, Any]:
    """Process, parent, chain, container and workload of every row."""
    run = runs.run
    texts = _bounded({name: [getattr(who, name) for who in whos] for name in _REPEATED}, run)

    def each(name: str) -> Any:
        return shared([getattr(who, name) for who in whos], run)

    return {
        "process.pid": runs.pid,
        "process.parent.pid": runs.parent_pid,
        "process.entity_id": each("entity_id"),
        "process.parent.entity_id": each("parent_id"),
        "process.root_id": each("root_id"),
        "process.parent.executable.path": shared(texts["parent_path"], run),
        "process.chain": shared(texts["chain"], run),
        "process.entry": closed("process.entry", np.array([who.entry for who in whos], np.int8)[run]),
        "process.executable.path": _with_own(
            texts["path"], run, {row: escape(rows.raw(row, Segment.PATH)) for row in lines}
        ),
        "process.command_line": _with_own(texts["command_line"], run, lines),
        "workload.id": each("workload_id"),
        "workload.runtime": each("runtime"),
        "workload.runtime_version": each("runtime_version"),
        "workload.gpus": each("gpus"),
        "container.id": shared([who.container.id for who in whos], run),
        "k8s.pod.uid": shared([who.container.pod for who in whos], run),
    }


def _bounded(columns: dict[str, list[str]], run: Column) -> dict[str, list[str]]:
    """Texts of each run, cut shorter when their rows would take too many bytes."""
    rows = np.bincount(run)
    if sum(int(rows @ np.array([*map(_size, texts)], np.int64)) for texts in columns.values() if texts) <= _REPEATED_BYTES:
        return columns
    most = _REPEATED_BYTES // len(columns) // len(run)
    return {name: [_cut(text, most) for text in texts] for name, texts in columns.items()}


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _cut(text: str, most: int) -> str:
    return text if _size(text) <= most else clip(text, most if text.isascii() else most // 4)


def _with_own(texts: list[str], run: Column, own: dict[int, str]) -> Any:
    """The text of each row's run; an exec row has its own, which was not clipped to be repeated."""
    changed = {row: text for row, text in own.items() if text != texts[run[row]]}
    if not changed:
        return shared(texts, run)
    index = run.copy()
    index[list(changed)] = np.arange(len(texts), len(texts) + len(changed))
    return shared([*texts, *changed.values()], index)
