"""Attaches programs to the tracepoints of system calls, through perf events: these need tracefs."""

from __future__ import annotations

import ctypes
import os
import struct

from modelward_agent.sensor import libbpf, mounts

_PERF_EVENT_OPEN = 298
"""System call number on x86-64, for which the kernel objects are built."""
_TYPE_TRACEPOINT = 2
_CLOSE_ON_EXEC = 8


def attach_syscall(program: libbpf.Program, name: str) -> libbpf.Link:
    """Attach to a system call's tracepoint, such as ``sys_exit_open``.

    Raises:
        OSError: it is refused; FileNotFoundError when this kernel has no such system call.
    """
    number = int((mounts.TRACEFS / "events/syscalls" / name / "id").read_text())
    attributes = bytearray(128)
    # struct perf_event_attr: type, size, config, sample_period; wakeup_events at 48
    struct.pack_into("=IIQQ", attributes, 0, _TYPE_TRACEPOINT, len(attributes), number, 1)
    struct.pack_into("=I", attributes, 48, 1)
    libc = ctypes.CDLL(None, use_errno=True)
    event = libc.syscall(_PERF_EVENT_OPEN, (ctypes.c_char * len(attributes)).from_buffer(attributes), -1, 0, -1,
                         ctypes.c_ulong(_CLOSE_ON_EXEC))
    if event < 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
    try:
        return program.attach_tracepoint(event)
    finally:
        os.close(event)
