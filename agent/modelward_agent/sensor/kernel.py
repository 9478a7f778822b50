"""The kernel side in the kernel: its maps and programs, loaded from the object or found pinned."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from modelward_agent.sensor import libbpf, records, uprobes
from modelward_agent.sensor.about import About, about_object, read_note, write_note
from modelward_agent.sensor.constants import Ring
from modelward_agent.sensor.errors import SensorError
from modelward_agent.sensor.host import kernel_has
from modelward_agent.sensor.offers import refused_kinds

RING_MAPS = {
    Ring.CONTROL: "ring_control",
    Ring.CONTROL_LARGE: "ring_control_large",
    Ring.EVENTS: "ring_events",
    Ring.EVENTS_LARGE: "ring_events_large",
}
LIFECYCLE_MAPS = (
    "tasks", "groups", "scopes", "held", "listeners", "clients", "own_clients", "artifacts", "loaded_files", "residents", ".bss",
)
"""What is known of running workloads; an upgraded agent of the same layout takes it over."""
_MAP, _PROGRAM = "map_", "program_"
_MOST_THREADS = 4
"""Each holds a descriptor of each map meanwhile, and parses the kernel's types: 30 ms."""
_COSTS = {
    "exit_open": 160, "on_file_open": 160, "on_file_opened": 160, "on_exec": 100, "adopt": 50, "probe_call": 46, "declare": 44,
    "on_exit": 38, "late_load": 35, "on_newtask": 31, "find_files": 26, "on_send": 25, "on_tcp_sendmsg": 25, "on_packet": 25,
    "on_first_read": 25, "on_read": 25, "on_readv": 25, "on_artifact_io": 25, "on_file_access": 25, "on_file_map": 25,
    "unmapped": 24, "on_uring_submit": 23, "probe_return": 21, "find_maps": 19, "on_signal": 14, "exit_connect": 13,
    "connect4": 9, "connect6": 9,
}
"""Milliseconds that Linux 6.18 takes to check a program, measured on a machine at rest; others take less than 8."""
_LITTLE = 5


class Kernel:
    """Maps and programs by name, and what they are."""

    def __init__(self, about: About, maps: Mapping[str, libbpf.Map], programs: Mapping[str, libbpf.Program],
                 folder: Path | None = None) -> None:
        self.about = about
        self.folder = folder
        """where it is pinned"""
        self.programs = dict(programs)
        self._maps = dict(maps)

    def map(self, name: str) -> libbpf.Map:
        """Raises SensorError."""
        if name not in self._maps:
            raise SensorError(f"the kernel object has no map {name}: it is older than this agent")
        return self._maps[name]

    def note(self, about: About) -> None:
        """Say beside the maps what they are. Raises OSError."""
        self.about = about
        write_note(self.map("about"), about.to_json())

    def pin(self, folder: Path) -> None:
        """Keep everything in an empty folder of a bpf file system. Raises OSError."""
        for name, found in self._maps.items():
            if not name.startswith(".rodata"):
                libbpf.pin(found.fd, folder / (_MAP + name.replace(".", "_")))
        for name, program in self.programs.items():
            libbpf.pin(program.fd, folder / (_PROGRAM + name))

    def close(self) -> None:
        """Forget them; what is pinned or attached goes on."""
        _close(self._maps, self.programs)
        self._maps.clear()
        self.programs.clear()


def about_this(ring_bytes: Mapping[Ring, int], without: Iterable[str]) -> tuple[Path, About]:
    """The object for this kernel, and what it will be when loaded."""
    path = records.OBJECT if kernel_has("bpf_rdonly_cast") else records.PLAIN_OBJECT
    return path, about_object(path, ring_bytes, without)


def load(path: Path, about: About, without: Iterable[str], taken_over: Mapping[str, int] | None = None) -> Kernel:
    """Load the object without the programs that this kernel refuses.

    Most of the time goes into the kernel's check of programs, which is done by whoever loads them: so threads share them.

    Args:
        without: programs not to load.
        taken_over: maps that exist already, by name, as descriptors.

    Raises:
        SensorError: the kernel refuses the maps, or all programs.
    """
    sections = _sections(path)
    refused = dict.fromkeys(without, "left out as asked")
    maps: dict[str, libbpf.Map] = {}
    programs: dict[str, libbpf.Program] = {}
    try:
        with ThreadPoolExecutor(_MOST_THREADS) as threads:
            kinds = threads.submit(refused_kinds)
            _load_maps(path, about, taken_over or {}, maps)
            for kind, why in kinds.result().items():
                for name, section in sections.items():
                    if section.startswith(kind):
                        refused.setdefault(name, why)
            shares = _shares([name for name in sections if name not in refused])
            tasks = [threads.submit(_load_programs, path, maps, share, programs) for share in shares]
        for task in tasks:
            refused |= task.result()
        if not programs:
            why = next(iter(refused.values()), "there is none")
            raise SensorError(f"the kernel refuses every program ({why}): a lockdown or a security module may forbid bpf()")
        left = {name: section for name, section in sections.items() if name in programs}
        about = replace(about, refused=refused, sections=left)
        kernel = Kernel(about, maps, {name: programs[name] for name in about.sections})
        kernel.note(about)
    except BaseException:
        _close(maps, programs)
        raise
    return kernel


def _shares(names: Iterable[str]) -> list[list[str]]:
    """Programs for each thread to load, the costly ones apart."""
    shares: list[list[str]] = [[] for _ in range(max(1, min(_MOST_THREADS, len(os.sched_getaffinity(0)))))]
    costs = [0] * len(shares)
    for name in sorted(names, key=lambda name: _COSTS.get(name, _LITTLE), reverse=True):
        least = costs.index(min(costs))
        shares[least].append(name)
        costs[least] += _COSTS.get(name, _LITTLE)
    return [share for share in shares if share]


def _open(path: Path, wanted: Container[str]) -> libbpf.Object:
    """The object with these of its programs. Raises SensorError."""
    found = libbpf.Object(path)
    uprobes.prepare(found.programs.values(), many=uprobes.for_many())
    for program in found.programs.values():
        if program.name not in wanted:
            program.skip()
    return found


def _sections(path: Path) -> dict[str, str]:
    found = libbpf.Object(path)
    try:
        return {program.name: program.section for program in found.programs.values()}
    finally:
        found.close()


def _load_maps(path: Path, about: About, taken_over: Mapping[str, int], loaded: dict[str, libbpf.Map]) -> None:
    """Adds to ``loaded``. Raises SensorError or OSError."""
    found = _open(path, ())
    try:
        for ring, name in RING_MAPS.items():
            found.resize(name, about.ring_bytes[ring])
        for name, fd in taken_over.items():
            found.reuse(name, fd)
        if error := found.load():
            raise _refusal(found, error)
        for name, each in found.maps().items():
            loaded[name] = each.again()
    finally:
        found.close()


def _load_programs(
    path: Path, maps: Mapping[str, libbpf.Map], wanted: Iterable[str], loaded: dict[str, libbpf.Program]
) -> dict[str, str]:
    """Add programs that use these maps to ``loaded``; returns which of them the kernel refuses, and why.

    Raises:
        SensorError: it refuses, and does not say which. OSError: no descriptor is left.
    """
    left, refused = set(wanted), dict[str, str]()
    while left:
        found = _open(path, left)
        try:
            for each in maps.values():
                found.reuse(each.name, each.fd)
            if not (error := found.load()):
                for name in left:
                    loaded[name] = found.programs[name].again()
                return refused
            news = {name: why for name, why in found.log.refused().items() if name in left}
            if not news:
                raise _refusal(found, error)
        finally:
            found.close()
        refused |= news
        left -= news.keys()
    return refused


def pinned(folder: Path) -> Kernel:
    """A kernel side that an earlier agent pinned.

    Raises:
        SensorError: it is not whole, or not of a version that can be understood.
    """
    maps: dict[str, libbpf.Map] = {}
    programs: dict[str, libbpf.Program] = {}
    try:
        for path in folder.iterdir():
            if path.name.startswith(_MAP):
                name = path.name.removeprefix(_MAP)
                name = "." + name.removeprefix("_") if name.startswith("_") else name
                maps[name] = libbpf.pinned_map(path, name)
        about = About.from_json(read_note(maps["about"]))
        for name, section in about.sections.items():
            programs[name] = libbpf.pinned_program(folder / (_PROGRAM + name), name, section)
    except (OSError, ValueError, KeyError, TypeError) as e:
        _close(maps, programs)
        raise SensorError(f"what is pinned in {folder} cannot be used: {e}") from e
    return Kernel(about, maps, programs, folder=folder)


def _refusal(found: libbpf.Object, error: int) -> SensorError:
    return SensorError(f"the kernel refuses the object: {os.strerror(error)}: " + " | ".join(found.log.take()[-3:]))


def _close(maps: Mapping[str, libbpf.Map], programs: Mapping[str, libbpf.Program]) -> None:
    for fd in (*(each.fd for each in maps.values()), *(each.fd for each in programs.values())):
        os.close(fd)
