"""Effects and the doors through which each can be seen, best first; which one a host got, and why.

A door is a set of programs that must all load and attach. Programs are in ``agent/bpf/*.bpf.h``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class DoorReport:
    """How one effect is seen on this host."""

    effect: str
    door: str
    """the door taken; ``none`` when the effect is not seen"""
    reason: str
    """why it was taken, or why the better ones were not"""
    proven: bool
    """whether a canary's effect came through it"""
    loss: str
    """what cannot be seen through it; empty when nothing is known"""


@dataclass(frozen=True)
class Door:
    """One way to see an effect."""

    name: str
    programs: tuple[str, ...]
    loss: str = ""
    tracepoints: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """program to the system-call tracepoints it is attached to; one is enough, as architectures lack some of
    the calls"""
    on_demand: bool = False
    """attached and detached as needed"""


@dataclass(frozen=True)
class Effect:
    name: str
    doors: tuple[Door, ...]
    required: bool = False


_OPENS = ("open", "openat", "openat2", "creat")
_OPEN_LOSS = "opens that fail, or with O_PATH; whether the file's own driver refuses afterwards"
_CONNECT_LOSS = "whether the connect succeeded; unix sockets; datagrams without a connect"
_SYSCALL_LOSS = "opens that fail; opens by 32-bit system calls; every system call of the host pays 100 to 190 ns"
_SEND_LOSS = "answers by shared memory and by sendfile; that what a process sends another of its group on a unix socket is none"
_PACKET_LOSS = "answers on unix sockets and by shared memory; answers that leave only after the client has acknowledged others"
_PAGES_LOSS = "page faults of mapped artifacts"
_FIRST_LOSS = "at once, models without a name of one that are only mapped, read by io_uring, or in a zip: they are found late"

EFFECTS: tuple[Effect, ...] = (
    Effect("exec", (Door("tp_btf/sched_process_exec", ("on_exec",)),), required=True),
    Effect("fork", (Door("tp_btf/task_newtask", ("on_newtask",)),), required=True),
    Effect("exit", (Door("tp_btf/sched_process_exit", ("on_exit",)),), required=True),
    Effect(
        "file_open",
        (Door("lsm/file_open", ("on_file_open",), _OPEN_LOSS),
         Door("fexit/security_file_open", ("on_file_opened",), _OPEN_LOSS),
         Door("tracepoint/syscalls/sys_{enter,exit}_{open,openat,openat2,creat}", ("enter_open", "exit_open"), _SYSCALL_LOSS,
              {f"{side}_open": tuple(f"sys_{side}_{call}" for call in _OPENS) for side in ("enter", "exit")})),
    ),
    Effect(
        "uring_open",
        (Door("lsm/file_open", ("on_file_open",), "opens that fail; the name asked for"),
         Door("fexit/security_file_open", ("on_file_opened",), "opens that fail; the name asked for"),
         Door("tp_btf/io_uring_submit_req", ("on_uring_submit",), "whether the open succeeded, and the file behind the name")),
    ),
    Effect(
        "connect",
        (
            Door("cgroup/connect{4,6}", ("connect4", "connect6"), _CONNECT_LOSS),
            Door("lsm/socket_connect", ("on_socket_connect",), _CONNECT_LOSS),
            Door("fentry/security_socket_connect", ("on_connecting",), _CONNECT_LOSS),
            Door("tracepoint/syscalls/sys_exit_connect", ("exit_connect",),
                 "connects by io_uring; an address that another thread changed during the call; unix sockets",
                 {"exit_connect": ("sys_exit_connect",)}),
        ),
    ),
    Effect("listen", (Door("tp_btf/inet_sock_set_state", ("on_sock_state",), "unix sockets"),)),
    Effect(
        "answer",
        (
            Door("tp_btf/sock_send_length", ("on_send",), "answers by shared memory"),
            Door("fexit/{tcp_sendmsg,unix_stream_sendmsg}", ("on_tcp_sendmsg", "on_unix_sendmsg"), _SEND_LOSS),
            Door("tp_btf/net_dev_queue", ("on_packet",), _PACKET_LOSS),
        ),
    ),
    Effect("stop", (Door("tp_btf/signal_deliver", ("on_signal",)),)),
    Effect(
        "artifact_io",
        (Door("fentry/security_{file_permission,mmap_file}", ("on_file_access", "on_file_map"), _PAGES_LOSS),
         Door("tp_btf/sys_enter, while a load is open", ("on_artifact_io",), f"{_PAGES_LOSS}; reads by io_uring",
              on_demand=True)),
    ),
    Effect(
        "artifact_read",
        (Door("fexit/vfs_{read,readv}", ("on_read", "on_readv"), _FIRST_LOSS),
         Door("fexit/vfs_read", ("on_read",), f"{_FIRST_LOSS}; or read by readv"),
         Door("tp_btf/sys_exit, while a server starts or loads", ("on_first_read",),
              f"{_FIRST_LOSS}; or in a server that has served for a while", on_demand=True)),
    ),
    Effect("late_load", (Door("iter/task", ("late_load",)),)),
    Effect("unload", (Door("iter/task_vma", ("find_mapped", "unmapped"), "unloads of models that were read, not mapped"),)),
    Effect("sweep", (Door("syscall", ("sweep",)),), required=True),
    Effect("adopt", (Door("iter/task, iter/task_file, iter/task_vma",
                          ("adopt", "find_files", "find_maps", "announce", "rebuild")),)),
)


def opens_on_demand(effect: str, reports: Iterable[DoorReport]) -> bool:
    """Whether an effect is seen here through a door that is attached and detached as needed."""
    doors = {(e.name, door.name): door for e in EFFECTS for door in e.doors}
    return any(report.effect == effect and (door := doors.get((effect, report.door))) is not None and door.on_demand
               for report in reports)
