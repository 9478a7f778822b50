"""One declaration, in the form of sd_notify: lines of NAME=value."""

from __future__ import annotations

import re
from dataclasses import dataclass

from modelward_agent.sensor.constants import Phase

MOST_BYTES = 4096
_PHASES = {b"load": Phase.LOAD, b"warmup": Phase.WARMUP, b"serve": Phase.SERVE, b"stop": Phase.STOP}
_DETAIL = 63
"""``MW_DETAIL`` of ``agent/bpf/state.h``, without the NUL that ends it."""
_DIGEST = re.compile(rb"(?:sha256:)?([0-9a-f]{64})\Z")
_DIGEST_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Hint:
    """What a process said, and which it was according to the kernel."""

    pid: int
    phase: Phase
    thread: int
    """number of the thread in the process' own PID namespace; 0: the first one"""
    detail: bytes
    """name and digest of the model as the process gave them: bytes of its own, without NUL"""
    sent_ns: int
    """boot time"""


def parse(raw: bytes, pid: int, sent_ns: int) -> Hint | None:
    """Understand a datagram; None when it declares no phase. Names that are not known are for a later version."""
    told = dict(line.split(b"=", 1) for line in raw.split(b"\n") if b"=" in line)
    phase = _PHASES.get(told.get(b"PHASE", b""))
    thread = told.get(b"THREAD", b"0")
    if phase is None or not (thread.isdigit() and len(thread) < 10):
        return None
    digest = _DIGEST.match(told.get(b"DIGEST", b""))
    end = b"@" + digest[1][:_DIGEST_SHOWN] if digest else b""
    model = told.get(b"MODEL", b"").replace(b"\0", b"")[: _DETAIL - len(end)]
    return Hint(pid, phase, int(thread), model + end, sent_ns)
