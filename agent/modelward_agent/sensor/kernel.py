"""The kernel side in the kernel: its maps and programs, loaded from the object or found pinned."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping
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
LIFECYCLE_MAPS = ("tasks", "groups", "scopes", "held", "listeners", "clients", "own_clients", "artifacts", "residents", ".bss")
"""What is known of running workloads; an upgraded agent of the same layout takes it over."""
_MAP, _PROGRAM = "map_", "program_"


class Kernel:
    """Maps and programs by name, and what they are."""

    def __init__(self, about: About, maps: Mapping[str, libbpf.Map], programs: Mapping[str, libbpf.Program],
                 loaded: libbpf.Object | None = None, folder: Path | None = None) -> None:
        self.about = about
        self.folder = folder
        """where it is pinned"""
        self.programs = dict(programs)
        self._maps = dict(maps)
        self._object = loaded

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
        if self._object is not None:
            self._object.close()
        else:
            for fd in (*(m.fd for m in self._maps.values()), *(p.fd for p in self.programs.values())):
                os.close(fd)
        self._maps.clear()
        self.programs.clear()


def about_this(ring_bytes: Mapping[Ring, int], without: Iterable[str]) -> tuple[Path, About]:
    """The object for this kernel, and what it will be when loaded."""
    path = records.OBJECT if kernel_has("bpf_rdonly_cast") else records.PLAIN_OBJECT
    return path, about_object(path, ring_bytes, without)


def load(path: Path, about: About, without: Iterable[str], taken_over: Mapping[str, int] | None = None) -> Kernel:
    """Load the object without the programs that this kernel refuses.

    Args:
        without: programs not to load.
        taken_over: maps that exist already, by name, as descriptors.

    Raises:
        SensorError: nothing is left to leave out, and the kernel still refuses.
    """
    refused = dict.fromkeys(without, "left out as asked")
    kinds = refused_kinds()
    while True:
        loaded = libbpf.Object(path)
        uprobes.prepare(loaded.programs.values(), many=uprobes.for_many())
        for program in loaded.programs.values():
            for kind, why in kinds.items():
                if program.section.startswith(kind):
                    refused.setdefault(program.name, why)
        for name in refused:
            loaded.programs[name].skip()
        for ring, name in RING_MAPS.items():
            loaded.resize(name, about.ring_bytes[ring])
        for name, fd in (taken_over or {}).items():
            loaded.reuse(name, fd)
        error = loaded.load()
        if not error:
            programs = {name: program for name, program in loaded.programs.items() if name not in refused}
            about = replace(about, refused=refused, sections={name: program.section for name, program in programs.items()})
            kernel = Kernel(about, loaded.maps(), programs, loaded)
            kernel.note(about)
            return kernel
        news = {name: why for name, why in loaded.log.refused().items() if name not in refused and name in loaded.programs}
        lines = loaded.log.take()
        count = len(loaded.programs)
        loaded.close()
        if not news:
            raise SensorError(f"the kernel refuses the object: {os.strerror(error)}: " + " | ".join(lines[-3:]))
        if error == errno.EPERM and len(refused) > count - 2:
            raise SensorError("the kernel refuses every program with EPERM: a lockdown or a security module forbids bpf()")
        refused |= news


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
        for fd in (*(m.fd for m in maps.values()), *(p.fd for p in programs.values())):
            os.close(fd)
        raise SensorError(f"what is pinned in {folder} cannot be used: {e}") from e
    return Kernel(about, maps, programs, folder=folder)
