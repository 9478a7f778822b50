"""Numbers of ``agent/bpf/events.h`` under their C names without ``MW_``; a test holds them to the object's
BTF and the header."""

from __future__ import annotations

from enum import IntEnum, IntFlag


class Phase(IntEnum):
    UNKNOWN, START, LOAD, WARMUP, SERVE, STOP = range(6)


class Scope(IntEnum):
    NONE, OPEN, TAIL = range(3)


class Evidence(IntEnum):
    OBSERVED, RECONSTRUCTED, DECLARED = range(3)


class Via(IntEnum):
    NONE, THREAD, FORK, EXEC = range(4)


class Outcome(IntEnum):
    SUCCESS, FAILURE, RESULT_UNKNOWN, ATTEMPTED = range(4)


class Trigger(IntEnum):
    NONE, EXEC, ARTIFACT_OPEN, QUIET, ANSWER, SIGNAL, EXIT, ADOPTED, UNLOAD, REOPENED, \
        PROBE_ENTER, PROBE_RETURN, INFERENCE, DEVICE, ARTIFACT_READ, ARTIFACT_MAP, DECLARED, LATE = range(18)


class Ring(IntEnum):
    CONTROL, CONTROL_LARGE, EVENTS, EVENTS_LARGE = range(4)


REPEATS_RING = 255
"""``ring`` of records that came from the repeat table, which have no number."""


class Segment(IntEnum):
    PATH, ASKED, INTERPRETER, CWD, ARGV = range(5)


class Flag(IntFlag):
    TRUNCATED = 1 << 0
    RACED = 1 << 1
    OUTSIDE_ROOT = 1 << 2
    UNLINKED = 1 << 3
    TMPFS = 1 << 4
    MEMFD = 1 << 5
    STDIO_SOCKET = 1 << 6
    LEADER = 1 << 7
    ROOT = 1 << 8
    SERVER = 1 << 9
    ARTIFACT = 1 << 10
    NEWER_THAN_ROOT = 1 << 11
    REPEATS = 1 << 12
    THREAD = 1 << 13
