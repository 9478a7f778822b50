"""Attaches programs to functions of files: many with one link where the kernel can (Linux 6.6), else with a perf event each.

A link for many is made in milliseconds and given up in 40; the perf events are given up one after another, 90 ms each (measured).

Nothing of this is pinned: a probe ends with the agent that made it, so that no workload pays for what nobody reads, and the next
agent finds the libraries again in the maps of processes. The phases go on without: probes only tell earlier and better what
files, sockets and quiet time tell too.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
import struct
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from modelward_agent.sensor import libbpf
from modelward_agent.sensor.host import kernel_has

_BPF, _PERF_EVENT_OPEN = 321, 298
"""System call numbers on x86-64, for which the kernel objects are built."""
_LINK_CREATE, _FOR_MANY, _AT_RETURN = 28, 48, 1
"""BPF_LINK_CREATE, BPF_TRACE_UPROBE_MULTI, BPF_F_UPROBE_MULTI_RETURN, which libbpf 1.1 does not know."""
_CLOSE_ON_EXEC = 8
_KIND = Path("/sys/bus/event_source/devices/uprobe")
_UNSAFE = ((6, 11), (6, 14))

_libc = ctypes.CDLL(None, use_errno=True)


@cache
def for_many() -> bool:
    """Whether this kernel attaches a program to many functions at once."""
    return kernel_has("bpf_uprobe_multi_link_attach")


def prepare(programs: Iterable[libbpf.Program], *, many: bool) -> None:
    """Say before the load how probes will be attached: a program can have either way only."""
    for program in programs:
        if many and program.section.startswith(("uprobe", "uretprobe")):
            program.expect(_FOR_MANY)


def returns_refused(release: str = platform.release()) -> str:
    """Why no return may be probed on this kernel; empty when they may.

    From 6.11 on a probed return enters the kernel by a system call, and until 6.14 the seccomp filters of containers refused
    that: the workload was killed (systemd issue 34615).
    """
    found = re.match(r"(\d+)\.(\d+)", release)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    if _UNSAFE[0] <= version < _UNSAFE[1]:
        return f"on Linux {version[0]}.{version[1]} seccomp filters kill processes whose returns are probed"
    return ""


def attach(program: libbpf.Program, file: int, functions: Sequence[tuple[int, int]], *, at_return: bool = False, pid: int = 0,
           many: bool) -> list[libbpf.Link]:
    """Run a program whenever one of the functions is entered, or left.

    Args:
        file: descriptor of the library or program; the probes are on its inode, for whoever maps it.
        functions: offset in the file, and the cookie that the program sees, of each.
        pid: of the only process that is to have them; 0: every one.
        many: as it was prepared.

    Raises:
        OSError: all or none is attached.
    """
    if many:
        return [_attach_many(program, file, functions, at_return, pid)]
    links: list[libbpf.Link] = []
    try:
        for offset, cookie in functions:
            links.append(_attach_one(program, file, offset, cookie, at_return, pid))
    except OSError:
        for link in links:
            link.close()
        raise
    return links


def _attach_many(
    program: libbpf.Program, file: int, functions: Sequence[tuple[int, int]], at_return: bool, pid: int,
) -> libbpf.Link:
    numbers = ctypes.c_uint64 * len(functions)
    offsets, cookies = numbers(*(offset for offset, _ in functions)), numbers(*(cookie for _, cookie in functions))
    path = _path(file)
    attributes = (ctypes.c_char * 64)()
    # union bpf_attr: prog_fd, target_fd, attach_type, flags; path, offsets, ref_ctr_offsets, cookies, cnt, flags, pid
    struct.pack_into("=4I4Q3I", attributes, 0, program.fd, 0, _FOR_MANY, 0, ctypes.addressof(path), ctypes.addressof(offsets), 0,
                     ctypes.addressof(cookies), len(functions), _AT_RETURN if at_return else 0, pid)
    return libbpf.adopt_link(_checked(_libc.syscall(_BPF, _LINK_CREATE, attributes, len(attributes))))


def _attach_one(program: libbpf.Program, file: int, offset: int, cookie: int, at_return: bool, pid: int) -> libbpf.Link:
    kind, bit = _perf_kind()
    path = _path(file)
    attributes = (ctypes.c_char * 128)()
    # struct perf_event_attr: type, size, config, sample_period; wakeup_events at 48; path and offset at 56
    struct.pack_into("=IIQQ", attributes, 0, kind, len(attributes), (1 << bit) if at_return else 0, 1)
    struct.pack_into("=I", attributes, 48, 1)
    struct.pack_into("=QQ", attributes, 56, ctypes.addressof(path), offset)
    event = _checked(_libc.syscall(_PERF_EVENT_OPEN, attributes, pid or -1, -1 if pid else 0, -1, ctypes.c_ulong(_CLOSE_ON_EXEC)))
    try:
        return program.attach_probe(event, cookie)
    finally:
        os.close(event)


@cache
def _perf_kind() -> tuple[int, int]:
    """Number of this sort of perf event, and the bit of its configuration that means a return. Raises OSError."""
    try:
        number = int((_KIND / "type").read_text())
        bit = re.fullmatch(r"config:(\d+)\s*", (_KIND / "format/retprobe").read_text())
    except (OSError, ValueError) as e:
        raise OSError(errno.ENOSYS, "this kernel has no probes on functions (CONFIG_UPROBE_EVENTS)") from e
    return number, int(bit[1]) if bit else 0


def _path(file: int) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(f"/proc/self/fd/{file}".encode())


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
