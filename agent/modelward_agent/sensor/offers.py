"""What a host offers, hook by hook: each kind of program is loaded and attached for a moment, empty."""

from __future__ import annotations

import os

from modelward_agent.sensor import libbpf, mounts, records
from modelward_agent.sensor.doors import DoorReport
from modelward_agent.sensor.errors import SensorError
from modelward_agent.sensor.host import lsm_active, require_host
from modelward_agent.sensor.tracepoints import attach_syscall

_OBJECT = records.OBJECT.with_name("offers.bpf.o")
_NOT_USED = "not used by this version"

HOOKS: dict[str, tuple[str, str]] = {
    "lsm": ("lsm/file_open", "opens, at no cost to other system calls: the best"),
    "fentry": ("fentry/security_file_open", "opens where LSM programs are not run, at no cost to other system calls"),
    "kprobe": ("kprobe/security_file_open", _NOT_USED),
    "tp_btf": ("tp_btf/sched_process_exec", "exec, fork, exit, signals, sockets"),
    "answers": ("tp_btf/sock_send_length", "answers of a server, since Linux 6.3; before that by fexit, or by packets"),
    "tracepoint": ("tracepoint/syscalls", "opens; every system call of the host pays 100 to 190 ns"),
    "cgroup": ("cgroup/connect4", "connects"),
    "iter": ("iter/task", "servers that run already"),
    "run": ("syscall", "the sweep of quiet loads"),
}
"""Program of ``agent/bpf/offers.bpf.c`` to the hook's name and what it is for."""


def check_host() -> list[DoorReport]:
    """For each kind of hook whether this host lets it in (``proven``) and if not why.

    Raises:
        SensorError: nothing can be tried: no root, no BTF, no libbpf.
    """
    require_host()
    reports = []
    for name, (hook, use) in HOOKS.items():
        refusal = _try(name)
        reason = use if refusal is None else f"{refusal} ({use})"
        reports.append(DoorReport(hook, name if refusal is None else "none", reason, refusal is None, ""))
    return reports


def refused_kinds() -> dict[str, str]:
    """Beginnings of sections whose programs this host does not run at all, and why not.

    Asked of small programs: to load the whole object once more for each that is refused takes seconds."""
    found: dict[str, str] = {}
    if not lsm_active():
        found["lsm/"] = "the kernel runs without BPF among its security modules (lsm=...,bpf on its command line)"
    elif refusal := _try("lsm"):
        found["lsm/"] = refusal
    if refusal := _try("fentry"):
        found["fentry/"] = found["fexit/"] = refusal
    return found


def _try(name: str) -> str | None:
    """None when the program loads and attaches, else why not."""
    kernel = libbpf.Object(_OBJECT)
    try:
        for other in kernel.programs.values():
            if other.name != name:
                other.skip()
        if error := kernel.load():
            return f"{os.strerror(error)} on load: {_said(kernel.log.take(), name)}".removesuffix(": ")
        return _attach(kernel.programs[name])
    except (OSError, SensorError) as e:
        return f"{e.strerror} on attach" if isinstance(e, OSError) else str(e)
    finally:
        kernel.close()


def _attach(program: libbpf.Program) -> str | None:
    if program.name == "run":
        return None
    if program.name == "tracepoint":
        if missing := mounts.tracefs():
            return missing
        attach_syscall(program, "sys_exit_openat").close()
        return None
    if program.name == "iter":
        program.iterate()
        return None
    if program.name == "cgroup":
        root = mounts.cgroup2()
        if isinstance(root, str):
            return root
        directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            program.attach_cgroup(directory).close()
        finally:
            os.close(directory)
        return None
    program.attach().close()
    return None


def _said(lines: list[str], name: str) -> str:
    """The line of libbpf's log that gives a reason beyond the error number."""
    for line in lines:
        if "failed to find" in line or "not supported" in line or "not enabled" in line:
            return line.removeprefix("libbpf: ").removeprefix(f"prog '{name}': ")
    return ""
