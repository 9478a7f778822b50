"""Proves doors: a child process provokes each effect, and its record must come out of the rings."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from modelward_proto.kinds import Kind

from modelward_agent.sensor.constants import Flag, Outcome, Trigger
from modelward_agent.sensor.doors import DoorReport

if TYPE_CHECKING:
    from modelward_agent.sensor.sensor import Sensor

_READING_S = 0.3
_PATIENCE_S = 10.0

_CHILD = Path(__file__).with_name("canary_child.py")


def prove(sensor: Sensor) -> list[DoorReport]:
    """The sensor's reports with ``proven`` set where the canary's effect came through.

    Records of other processes that come meanwhile are dropped: this is for ``modelward-agent check``, not for
    a running agent.
    """
    seen = _provoke(sensor)
    found = {
        "exec": _any(seen, Kind.PROCESS_EXEC),
        "fork": _any(seen, Kind.PROCESS_FORK),
        "exit": _any(seen, Kind.PROCESS_EXIT),
        "file_open": bool(((seen["kind"] == Kind.FILE_OPEN) & (seen["outcome"] == Outcome.SUCCESS)).any()),
        "uring_open": _opened_by_uring(seen),
        "connect": _any(seen, Kind.NET_CONNECT),
        "listen": _any(seen, Kind.NET_LISTEN),
        "answer": _any(seen, Kind.LIFECYCLE, Trigger.ANSWER),
        "stop": _any(seen, Kind.LIFECYCLE, Trigger.SIGNAL),
        "sweep": _any(seen, Kind.LIFECYCLE, Trigger.QUIET),
        "adopt": _any(seen, Kind.LIFECYCLE, Trigger.ADOPTED),
        "artifact_io": _kept_open(seen),
        "artifact_read": _any(seen, Kind.LIFECYCLE, Trigger.ARTIFACT_READ),
        "late_load": _any(seen, Kind.LIFECYCLE, Trigger.LATE),
        "unload": _any(seen, Kind.LIFECYCLE, Trigger.UNLOAD),
    }
    return [replace(report, proven=found[report.effect] and report.door != "none")
            for report in sensor.doors() if report.effect in found]


def _provoke(sensor: Sensor) -> np.ndarray:
    with tempfile.TemporaryDirectory(prefix="modelward-canary-") as folder:
        artifact = Path(folder, "canary.gguf")
        artifact.write_bytes(bytes(1 << 16))
        nameless = Path(folder, "canary")
        nameless.write_bytes(b"GGUF".ljust(1 << 10))
        command = [sys.executable, "-I", "-S", str(_CHILD), str(artifact), str(nameless), str(_READING_S)]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            assert child.stdin
            assert child.stdout
            # An answer goes to a client that is none of the child's own.
            threading.Thread(target=_call, args=(child.stdout,), daemon=True).start()
            sensor.track(child.pid)
            child.stdin.write(b"\n")
            child.stdin.close()
            return _drain(sensor, child)
        finally:
            child.kill()
            child.wait()


def _call(ports: IO[bytes]) -> None:
    with contextlib.suppress(OSError, ValueError), socket.create_connection(("127.0.0.1", int(ports.readline())), 5) as client:
        client.recv(1)


def _drain(sensor: Sensor, child: subprocess.Popen[bytes]) -> np.ndarray:
    parts: list[np.ndarray] = []
    end = time.monotonic() + _PATIENCE_S
    ended = late = False
    while not ended and time.monotonic() < end:
        ended = child.poll() is not None
        time.sleep(0.02)
        sensor.tick()
        sensor.look_for_unloads()
        drained = sensor.drain()
        sensor.commit(drained.positions)
        shared = [name for name in drained.small.dtype.names or () if name != "text"]
        parts += [part[part["root_tgid"] == child.pid][shared] for part in (drained.small, drained.large)]
        if not late and any(_any(part, Kind.LIFECYCLE, Trigger.ANSWER) for part in parts):
            late = sensor.late_load(child.pid, 0, 1, 1)
    return np.concatenate([part.astype(parts[0].dtype) for part in parts])


def _any(seen: np.ndarray, kind: Kind, trigger: Trigger | None = None) -> bool:
    chosen = seen["kind"] == kind
    if trigger is not None:
        chosen &= seen["trigger"] == trigger
    return bool(chosen.any())


def _opened_by_uring(seen: np.ndarray) -> bool:
    """Its own hook tells of an attempt; the security hook of the file itself, which was opened by a system call before."""
    opens = seen[seen["kind"] == Kind.FILE_OPEN]
    artifacts = (opens["flags"] & Flag.ARTIFACT != 0) & (opens["outcome"] == Outcome.SUCCESS)
    return bool((opens["outcome"] == Outcome.ATTEMPTED).any()) or int(artifacts.sum()) > 1


def _kept_open(seen: np.ndarray) -> bool:
    """Did reading keep the load open beyond the 100 ms after which it would have been quiet?"""
    loads = seen[seen["kind"] == Kind.LIFECYCLE]
    opened = loads["time_ns"][loads["trigger"] == Trigger.ARTIFACT_OPEN]
    quiet = loads["time_ns"][loads["trigger"] == Trigger.QUIET]
    return bool(opened.size and quiet.size and int(quiet[0]) - int(opened[0]) > _READING_S * 1e9)
