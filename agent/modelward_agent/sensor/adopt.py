"""Adopts what runs already: servers of the list, processes that hold an artifact, and all that descends from
them.

User space only names candidates and runs the kernel's iterators (``agent/bpf/adopt.bpf.h``); those decide,
tag and rebuild the phase, so that nothing the kernel learns meanwhile is overwritten.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from modelward_agent.enrich.proc_files import ProcFiles
from modelward_agent.sensor.kernel import Kernel
from modelward_agent.sensor.servers import Lists, is_server, may_be_server

_EXCLUDED, _SERVER = 1, 2
_FIND_HOLDERS, _FIND_MODELS = 0, 1
_ROUNDS = 16
"""Each round reaches one generation further where pids have wrapped; more are never needed in practice."""


def running_servers(names: Lists, proc: Path = Path("/proc")) -> Iterator[int]:
    """Pids of processes whose program and arguments match the list of servers."""
    files = ProcFiles(proc)
    with os.scandir(proc) as entries:
        pids = [int(entry.name) for entry in entries if entry.name.isdigit()]
    for pid in pids:
        if not may_be_server(files.program(pid), names.programs):
            continue
        # None: it ended meanwhile. A command line may hang, as any user can arrange: that must not hold up the start.
        seen = files.process(*files.key(pid))
        if seen is not None and is_server(seen.path, seen.arguments, names.programs):
            yield pid


def exclude(kernel: Kernel, pids: Iterable[int]) -> None:
    """The agent's own processes: neither they nor what they start is ever tracked."""
    wanted = kernel.map("wanted")
    for pid in pids:
        wanted.update(struct.pack("=I", pid), struct.pack("=I", _EXCLUDED))


def adopt_running(kernel: Kernel, found: Iterable[int], adopted: Callable[[], int], step: Callable[[int], None]) -> None:
    """At start, with the hooks attached: find servers and holders of artifacts, tag their tasks, rebuild
    their phase.

    Args:
        found: processes that are servers by their name.
        adopted: reads the kernel's count of adopted tasks.
        step: tells the iterators what to look for.
    """
    wanted = kernel.map("wanted")
    servers = list(found)
    for pid in servers:
        wanted.update(struct.pack("=I", pid), struct.pack("=I", _SERVER))
    step(_FIND_HOLDERS)
    _tag(kernel, adopted)
    kernel.programs["find_files"].iterate()
    kernel.programs["find_maps"].iterate()
    # Now that listening ports are known, so is what was accepted on them.
    _tag(kernel, adopted)
    _forget(kernel)
    kernel.programs["find_files"].iterate()
    kernel.programs["rebuild"].run(ctypes.create_string_buffer(8))
    step(_FIND_MODELS)
    kernel.programs["find_files"].iterate()
    kernel.programs["find_maps"].iterate()
    kernel.programs["announce"].iterate()
    # Another process may have the pid tomorrow.
    for pid in servers:
        wanted.delete(struct.pack("=I", pid))


def adopt_descendants(kernel: Kernel, adopted: Callable[[], int]) -> None:
    """Tag and announce threads and children that a process had before it became tracked."""
    _tag(kernel, adopted)
    kernel.programs["announce"].iterate()


def _forget(kernel: Kernel) -> None:
    """Who held an artifact: the numbers may be other processes' tomorrow."""
    holders = kernel.map("holders")
    pids = holders.keys()
    for pid in pids:
        holders.delete(pid)


def _tag(kernel: Kernel, adopted: Callable[[], int]) -> None:
    """Tag what belongs to tagged processes, until nothing is new."""
    before = adopted()
    for _ in range(_ROUNDS):
        kernel.programs["adopt"].iterate()
        now = adopted()
        if now == before:
            return
        before = now
