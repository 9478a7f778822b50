"""The columns that say what was done: program, file, address, lifecycle. Straight from the records,
without a look at single events."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from modelward_proto.fields import EVENT_NAMES, Kind
from modelward_proto.text import escape

from modelward_agent.enrich import addresses
from modelward_agent.enrich.attribution import Who
from modelward_agent.enrich.columns import closed, seconds, shared, sparse, times
from modelward_agent.enrich.rows import Rows, flagged
from modelward_agent.enrich.text_columns import strings
from modelward_agent.enrich.workloads import Workloads
from modelward_agent.sensor.constants import Flag, Segment

Column = npt.NDArray[Any]

_O_CREAT = 0o100
_INDEX = {int(kind): index for index, kind in enumerate(EVENT_NAMES)}
_NAMES = np.full(65536, _INDEX[Kind.HOST_LOSS], np.int8)
_NAMES[list(_INDEX)] = list(_INDEX.values())


def common_columns(rows: Rows, flags: Column, wall_offset_ns: int) -> dict[str, Any]:
    """Time, name, outcome, count, thread and user of every row; hop and kind of losses."""
    kind = rows.kind
    worker = ~flagged(flags, Flag.LEADER)
    worker[rows.records :] = False
    count = rows.column("count").astype(np.uint64)
    hops = {rows.records + i: escape(hop.encode()) for i, (hop, _, _) in enumerate(rows.losses)}
    kinds = {rows.records + i: escape(of.encode()) for i, (_, of, _) in enumerate(rows.losses)}
    for i, (_, _, lost) in enumerate(rows.losses):
        count[rows.records + i] = min(max(0, lost), 2**64 - 1)
    names = _NAMES[kind]
    if len(unknown := np.flatnonzero((names == _INDEX[Kind.HOST_LOSS])[: rows.records])):
        # A newer kernel side, or damage: an effect that cannot be named is counted as lost, not hidden.
        hops |= dict.fromkeys(unknown.tolist(), "drained")
        kinds |= {row: f"kind_{kind[row]}" for row in unknown.tolist()}
    return {
        "time": times(rows.time_ns, wall_offset_ns),
        "event.name": closed("event.name", names),
        "event.outcome": closed("event.outcome", rows.column("outcome")),
        "count": count,
        "thread.id": rows.column("tid"),
        "thread.role": closed("thread.role", worker),
        "user.id": rows.column("uid"),
        "truncated": flagged(flags, Flag.TRUNCATED) | rows.overflow,
        "loss.hop": sparse(rows.count, hops),
        "loss.kind": sparse(rows.count, kinds),
    }


def exec_columns(rows: Rows, flags: Column, wall_offset_ns: int) -> dict[str, Any]:
    """What the kernel saw of a program at exec, and how a process ended."""
    at = rows.kind == Kind.PROCESS_EXEC
    some = np.flatnonzero(at).tolist()
    ended = rows.kind == Kind.PROCESS_EXIT
    changed = rows.column("changed_ns")
    asked = _texts(rows, some, Segment.ASKED)
    age = seconds(times(rows.time_ns, wall_offset_ns), changed)
    return {
        "process.executable.asked": sparse(rows.count, asked),
        # The kernel side leaves the interpreter out when it is the program asked for.
        "process.executable.interpreter": sparse(rows.count, asked | _texts(rows, some, Segment.INTERPRETER)),
        "process.executable.age_s": np.where(at & (changed != 0), age, 0.0),
        "process.executable.newer_than_root": at & flagged(flags, Flag.NEWER_THAN_ROOT),
        "process.executable.on_tmpfs": at & flagged(flags, Flag.TMPFS | Flag.MEMFD),
        "process.executable.memfd": at & flagged(flags, Flag.MEMFD | Flag.UNLINKED),
        "process.stdio_socket": at & flagged(flags, Flag.STDIO_SOCKET),
        "process.args_count": _only(at, rows.column("args_count")),
        "process.args_length": _only(at, rows.column("args_length")),
        "process.working_directory": sparse(rows.count, _texts(rows, some, Segment.CWD)),
        "process.exit.code": _only(ended, rows.column("exit_code")),
        "process.exit.signal": _only(ended, np.minimum(rows.column("exit_signal"), 255)).astype(np.uint8),
    }


def file_columns(rows: Rows, flags: Column, whos: list[Who], run: Column) -> dict[str, Any]:
    """The file of an open, an exec (numbers alone: its path is the program's) or a lifecycle change."""
    opened = rows.kind == Kind.FILE_OPEN
    lifecycle = (rows.kind == Kind.LIFECYCLE) | (rows.kind == Kind.MODEL_IDENTITY) | (rows.kind == Kind.LIBRARY)
    named = opened | (rows.kind == Kind.PROCESS_EXEC)
    path_at, whole_length = rows.spans(Segment.PATH)
    asked_at, asked_length = rows.spans(Segment.ASKED)
    path_length = _only(opened | lifecycle, whole_length)
    inode = np.where(lifecycle, rows.column("artifact_inode"), rows.column("inode"))
    device = np.where(lifecycle, rows.column("artifact_device"), rows.column("device"))
    return {
        "file.path": strings(rows.bytes, path_at, path_length),
        "file.path_asked": strings(rows.bytes, asked_at, _only(opened, asked_length)),
        "file.inode": _only(named | lifecycle, inode),
        "file.device": _only(named | lifecycle, device),
        "file.links": _only(named, rows.column("links")),
        "file.access": closed("file.access", _only(opened, rows.column("access"))),
        "file.flags": _only(opened, rows.column("open_flags")),
        "file.created": opened & ((rows.column("open_flags") & _O_CREAT) != 0),
        "file.in_model_dir": named & _in_model_folder(rows, whos, run, path_at, whole_length),
        "file.outside_root": (opened | (rows.kind == Kind.PROCESS_EXEC)) & flagged(flags, Flag.OUTSIDE_ROOT),
        "raced": flagged(flags, Flag.RACED),
    }


def net_columns(rows: Rows, whos: list[Who], run: Column, workloads: Workloads) -> dict[str, Any]:
    """The far end of a connect; of a listen, the address listened on."""
    connect = rows.kind == Kind.NET_CONNECT
    at = np.flatnonzero(connect | (rows.kind == Kind.NET_LISTEN))
    first_seen = np.zeros(rows.count, np.bool_)
    if not len(at):
        none = np.zeros(rows.count, np.uint8)
        return {
            "destination.address": sparse(rows.count, {}),
            "destination.port": none.astype(np.uint16),
            "network.transport": closed("network.transport", none),
            "destination.first_seen": first_seen,
        }
    family, port, transport = (rows.column(name) for name in ("family", "port", "transport"))
    texts, index = addresses.texts(family[at], rows.column("address")[at])
    unix = np.flatnonzero((transport[at] == addresses.UNIX) & (rows.spans(Segment.PATH)[1][at] > 0))
    if len(unix):
        index[unix] = np.arange(len(texts), len(texts) + len(unix))
        texts += [escape(rows.raw(row, Segment.PATH)) for row in at[unix].tolist()]
    own = np.zeros(rows.count, np.int64)
    own[at] = index + 1
    _mark_first(first_seen, at[connect[at]], own, port, texts, whos, run, workloads, rows.time_ns)
    net = np.zeros(rows.count, np.bool_)
    net[at] = True
    return {
        "destination.address": shared(["", *texts], own),
        "destination.port": _only(net, port),
        "network.transport": closed("network.transport", _only(net, transport)),
        "destination.first_seen": first_seen,
    }


def lifecycle_columns(rows: Rows) -> dict[str, Any]:
    """Phase, scope and origin of the task; the transition, in a lifecycle row."""
    change = rows.kind == Kind.LIFECYCLE
    phase = np.where(change, rows.column("to_phase"), rows.column("phase"))
    origin_scope = rows.column("origin_scope")
    origin_instance = rows.column("origin_instance")
    origin_time = rows.column("origin_time_ns")
    of_load = (origin_scope != 0) | (origin_instance != 0)
    return {
        "model.instance": rows.column("instance"),
        "lifecycle.phase": closed("lifecycle.phase", phase),
        "lifecycle.scope": closed("lifecycle.scope", rows.column("scope")),
        "lifecycle.evidence": closed("lifecycle.evidence", rows.column("evidence")),
        "lifecycle.origin.phase": closed("lifecycle.origin.phase", of_load),
        "lifecycle.origin.scope": closed("lifecycle.origin.scope", origin_scope),
        "lifecycle.origin.via": closed("lifecycle.origin.via", rows.column("origin_via")),
        "lifecycle.origin.instance": origin_instance,
        "lifecycle.origin.age_s": np.where(origin_time != 0, seconds(rows.time_ns, origin_time), 0.0),
        "lifecycle.from": closed("lifecycle.from", _only(change, rows.column("from_phase"))),
        "lifecycle.trigger": closed("lifecycle.trigger", _only(change, rows.column("trigger"))),
        "lifecycle.detail": sparse(rows.count, _texts(rows, np.flatnonzero(change).tolist(), Segment.ASKED)),
    }


def _only(at: Column, values: Column) -> Column:
    """The values of some rows, zero elsewhere: members of a union mean nothing in records of another kind."""
    return np.where(at, values, values.dtype.type(0))


def _texts(rows: Rows, some: list[int], segment: int) -> dict[int, str]:
    return {row: escape(raw) for row in some if (raw := rows.raw(row, segment))}


def _in_model_folder(rows: Rows, whos: list[Who], run: Column, starts: Column, lengths: Column) -> Column:
    inside = np.zeros(rows.count, np.bool_)
    folders: dict[bytes, list[int]] = {}
    for number, who in enumerate(whos):
        for folder in who.workload.model_folders if who.workload is not None else ():
            folders.setdefault(folder + b"/", []).append(number)
    for folder, numbers in folders.items():
        of = np.zeros(len(whos), np.bool_)
        of[numbers] = True
        at = np.flatnonzero(of[run] & ~inside & (lengths > len(folder)))
        heads = rows.bytes[starts[at][:, None] + np.arange(len(folder))]
        inside[at] = (heads == np.frombuffer(folder, np.uint8)).all(axis=1)
    return inside


def _mark_first(
    first_seen: Column,
    at: Column,
    address: Column,
    port: Column,
    texts: list[str],
    whos: list[Who],
    run: Column,
    workloads: Workloads,
    time_ns: Column,
) -> None:
    if not len(at):
        return
    key = (run[at].astype(np.uint64) << np.uint64(40)) | (address[at].astype(np.uint64) << np.uint64(16))
    key |= port[at].astype(np.uint64)
    _, first = np.unique(key, return_index=True)
    for row in at[np.sort(first)].tolist():
        endpoint = f"{texts[address[row] - 1]} {port[row]}"
        known = workloads.first_connect(whos[run[row]].workload_id, endpoint, int(time_ns[row]))
        first_seen[row] = known == int(time_ns[row])
