"""Proves probes: a child process maps a library of each family and calls what is probed in it.

The libraries are made here. They have the names and the functions of a family, and the functions do nothing; so each family is
found, looked into, attached to and heard as in a real server, whatever is installed on the host.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

from modelward_proto.kinds import Kind

from modelward_agent.probes.table import FAMILIES, Family
from modelward_agent.sensor import uprobes
from modelward_agent.sensor.constants import Trigger
from modelward_agent.sensor.doors import DoorReport
from modelward_agent.sensor.probing import PROBE

if TYPE_CHECKING:
    from modelward_agent.sensor.sensor import Sensor

_PATIENCE_S = 20.0
_AFTER_S = 8.0
"""What was heard is reported after the child has ended, and its probes were given up: 90 ms each, where they are perf events."""
_CHILD = Path(__file__).with_name("probe_canary_child.py")
_PAGE = 4096
_CODE = b"\x31\xc0\xc3"
"""Returns 0."""
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_LOAD, _DYNAMIC, _STACK = 1, 2, 0x6474E551
_X, _W, _R = 1, 2, 4
_DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_SYMENT = 4, 5, 6, 10, 11


def prove_probes(sensor: Sensor) -> list[DoorReport]:
    """A report for each family: how its functions are probed on this host, and ``proven`` where the calls were heard.

    Records of other processes that come meanwhile are dropped: this is for ``modelward-agent check``.
    """
    with tempfile.TemporaryDirectory(prefix="modelward-probes-") as folder:
        job = []
        for family in FAMILIES:
            path = Path(folder, f"{family.stems[0]}.so")
            names = _names(family)
            path.write_bytes(library([name for group in names for name in group]))
            path.chmod(0o755)
            job.append((str(path), names))
        child = subprocess.Popen([sys.executable, "-I", "-S", str(_CHILD), str(_PATIENCE_S)],
                                 stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert child.stdin
            sensor.track(child.pid)
            _begin(child.stdin, job)
            returned = _drain(sensor, child)
        finally:
            child.kill()
            child.wait()
    return [_told(report, returned) for report in sensor.doors() if report.effect.startswith(PROBE)]


def _begin(told: IO[bytes], job: object) -> None:
    told.write(json.dumps(job).encode() + b"\n")
    told.close()


def _names(family: Family) -> list[list[str]]:
    """Its functions, in groups of those that are attached together."""
    groups: dict[tuple[bool, object], list[str]] = {}
    for function in family.functions:
        groups.setdefault((function.hot, function.means if function.hot else None), []).append(function.alternatives[0])
    return list(groups.values())


def _drain(sensor: Sensor, child: subprocess.Popen[bytes]) -> bool:
    """Until the child has ended and what it called was heard; whether the return of a call was."""
    end = time.monotonic() + _PATIENCE_S + _AFTER_S
    returned = False
    while time.monotonic() < end:
        if child.poll() is not None:
            end = min(end, time.monotonic() + _AFTER_S)
            if all(report.proven for report in sensor.doors() if report.effect.startswith(PROBE)):
                end = 0.0
        time.sleep(0.02)
        sensor.tick()
        drained = sensor.drain()
        sensor.commit(drained.positions)
        for part in (drained.small, drained.large):
            own = part[part["root_tgid"] == child.pid]
            returned |= bool(((own["kind"] == Kind.LIFECYCLE) & (own["trigger"] == Trigger.PROBE_RETURN)).any())
    return returned


def _told(report: DoorReport, returned: bool) -> DoorReport:
    """How the family would be probed in a server, in place of how the canary's library was."""
    if not report.door.startswith("uprobe"):
        reason = report.reason if report.door == "none" else "a library of the check was not found"
        return replace(report, door="none", proven=False, reason=reason)
    way = "uprobe_multi, many functions with one link" if uprobes.for_many() else "perf events, one for each function"
    refused = uprobes.returns_refused()
    returns = f"returns not: {refused}" if refused else "calls and returns" if returned else "calls; no return was heard"
    return replace(report, door=f"{way}; {returns}", reason="first choice" if report.proven else report.reason)


def library(functions: Sequence[str]) -> bytes:
    """A shared library for x86-64 with these functions, none of which does anything."""
    count = len(functions)
    names, offsets = b"\0", []
    for function in functions:
        offsets.append(len(names))
        names += function.encode() + b"\0"
    hash_at = _HEADER.size + 4 * _SEGMENT.size
    symbols_at = _aligned(hash_at + 4 * (4 + count))
    names_at = symbols_at + _SYMBOL.size * (count + 1)
    code_at = _aligned(names_at + len(names))
    code_end = code_at + 16 * count
    dynamic_at = _aligned(code_end, _PAGE)
    # One bucket: each symbol leads to the next.
    hashes = struct.pack(f"<{4 + count}I", 1, count + 1, min(1, count), 0, *range(2, count + 1), 0)[: 4 * (4 + count)]
    symbols = _SYMBOL.pack(0, 0, 0, 0, 0, 0) + b"".join(
        _SYMBOL.pack(offset, 0x12, 0, 1, code_at + 16 * n, len(_CODE)) for n, offset in enumerate(offsets))
    dynamic = b"".join(struct.pack("<QQ", *entry) for entry in (
        (_DT_HASH, hash_at), (_DT_STRTAB, names_at), (_DT_SYMTAB, symbols_at), (_DT_STRSZ, len(names)),
        (_DT_SYMENT, _SYMBOL.size), (0, 0)))
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    parts = {
        0: _HEADER.pack(ident, 3, 62, 1, 0, _HEADER.size, 0, 0, _HEADER.size, _SEGMENT.size, 4, 0, 0, 0) + b"".join((
            _SEGMENT.pack(_LOAD, _R | _X, 0, 0, 0, code_end, code_end, _PAGE),
            # The dynamic linker of older C libraries writes into it.
            _SEGMENT.pack(_LOAD, _R | _W, dynamic_at, dynamic_at, dynamic_at, len(dynamic), len(dynamic), _PAGE),
            _SEGMENT.pack(_DYNAMIC, _R | _W, dynamic_at, dynamic_at, dynamic_at, len(dynamic), len(dynamic), 8),
            _SEGMENT.pack(_STACK, _R | _W, 0, 0, 0, 0, 0, 16))),
        hash_at: hashes, symbols_at: symbols, names_at: names, code_at: _CODE.ljust(16, b"\xcc") * count, dynamic_at: dynamic,
    }  # fmt: skip
    made = bytearray(dynamic_at + len(dynamic))
    for at, part in parts.items():
        made[at : at + len(part)] = part
    return bytes(made)


def _aligned(at: int, to: int = 16) -> int:
    return -(-at // to) * to
