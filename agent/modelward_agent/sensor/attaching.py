"""Attaches hooks: for each effect the best door that this host lets in; where an earlier agent's hooks are pinned, new programs
behind them in place of the old ones."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from collections.abc import Iterable
from pathlib import Path

from modelward_agent.sensor import libbpf, mounts
from modelward_agent.sensor.doors import EFFECTS, Door, DoorReport, Effect
from modelward_agent.sensor.errors import SensorError
from modelward_agent.sensor.kernel import Kernel
from modelward_agent.sensor.tracepoints import attach_syscall

_FIRST = struct.pack("=I", 0)
_SLOT, _DOOR, _LINK = "slot_", "door_", "link_"


class Hooks:
    """The hooks of one host. With a folder they are pinned there, and outlive the agent."""

    def __init__(self, kernel: Kernel, folder: Path | None) -> None:
        self._kernel = kernel
        self._folder = folder
        self._links: dict[str, libbpf.Link] = {}
        self._doors: list[libbpf.Program] = []
        """The programs that run at the hooks, an earlier agent's too: they count what they missed."""

    def open(self) -> list[DoorReport]:
        """Take a door for each effect; the report says which, and why no better one.

        Raises:
            SensorError: an effect that everything needs cannot be seen.
        """
        tracefs = mounts.tracefs()
        if self._folder is not None:
            self._folder.mkdir(mode=0o700, exist_ok=True)
        reports = [self._take(effect, tracefs) for effect in EFFECTS]
        self._find_doors()
        self._drop_others({program for report, effect in zip(reports, EFFECTS, strict=True)
                           for door in effect.doors if door.name == report.door for program in door.programs})
        return reports

    def hand_over(self, programs: Iterable[str]) -> bool:
        """Let these hear from now on in place of an earlier agent's. False when no hooks are pinned."""
        if self._folder is None or not self._folder.is_dir():
            return False
        for name in programs:
            if name in self._kernel.programs and self._pinned(name):
                self._fill_slot(name)
        return True

    def find(self) -> bool:
        """Use the hooks that are pinned. False when they are not all there."""
        if self._folder is None:
            return False
        for report, effect in zip(self._kernel.about.doors, EFFECTS, strict=True):
            for door in effect.doors:
                if door.name != report.door or door.on_demand:
                    continue
                for name in door.programs:
                    if self._is_hook(name) and not self._pinned(name):
                        return False
        self._find_doors()
        return True

    def _take(self, effect: Effect, tracefs: str | None) -> DoorReport:
        reasons: list[str] = []
        for door in effect.doors:
            failure = self._attach(door, tracefs)
            if failure is None:
                return DoorReport(effect.name, door.name, "; ".join(reasons) or "first choice", False, door.loss)
            reasons.append(f"{door.name}: {failure}")
        if effect.required:
            raise SensorError(f"cannot see {effect.name}: {'; '.join(reasons)}")
        return DoorReport(effect.name, "none", "; ".join(reasons), False, f"{effect.name} is not seen")

    def _attach(self, door: Door, tracefs: str | None) -> str | None:
        """None when the door is open, else why not."""
        if door.tracepoints and tracefs:
            return tracefs
        made: list[str] = []
        refused = self._kernel.about.refused
        for name in door.programs:
            for program in (name, _DOOR + name):
                if program in refused:
                    return f"{name}: {refused[program]}"
            if name not in self._kernel.programs:
                return f"{name}: not in this kernel object"
            if door.on_demand or not self._is_hook(name):
                continue
            try:
                made += self._hook(name, door)
            except OSError as e:
                self._unmake(made)
                return f"{name}: {e.strerror}"
        return None

    def _is_hook(self, name: str) -> bool:
        """Programs of other kinds are run by the agent."""
        return not self._kernel.programs[name].section.startswith(("syscall", "iter"))

    def _hook(self, name: str, door: Door) -> list[str]:
        """Let a program hear what happens at its hook; the links that had to be made. Raises OSError."""
        if self._folder is not None and self._pinned(name):
            self._fill_slot(name)
            return []
        if _LINK + name in self._links:
            return []  # one program may show several effects
        slot = self._kernel.map(_SLOT + name)
        slot.update(_FIRST, struct.pack("=I", self._kernel.programs[name].fd))
        program = self._kernel.programs[_DOOR + name]
        links = self._links_of(program, name, door)
        self._links |= links
        if self._folder is not None:
            try:
                made = {_SLOT + name: slot.fd, _DOOR + name: program.fd, **{path: link.fd for path, link in links.items()}}
                for path, fd in made.items():
                    (self._folder / path).unlink(missing_ok=True)
                    libbpf.pin(fd, self._folder / path)
            except OSError:
                self._unmake(links)
                raise
        return list(links)

    def _fill_slot(self, name: str) -> None:
        assert self._folder is not None
        slot = libbpf.pinned_map(self._folder / (_SLOT + name), _SLOT + name)
        try:
            slot.update(_FIRST, struct.pack("=I", self._kernel.programs[name].fd))
        finally:
            os.close(slot.fd)

    def _unmake(self, links: Iterable[str]) -> None:
        for link in links:
            self._links.pop(link).close()
            if self._folder is not None:
                (self._folder / link).unlink(missing_ok=True)

    def _links_of(self, program: libbpf.Program, name: str, door: Door) -> dict[str, libbpf.Link]:
        if name in door.tracepoints:
            links: dict[str, libbpf.Link] = {}
            for tracepoint in door.tracepoints[name]:
                with contextlib.suppress(FileNotFoundError):
                    links[f"{_LINK}{name}-{tracepoint}"] = attach_syscall(program, tracepoint)
            if not links:
                raise FileNotFoundError(errno.ENOENT, "no such tracepoint", name)
            return links
        if program.section.startswith("cgroup/"):
            root = mounts.cgroup2()
            if isinstance(root, str):
                raise OSError(errno.ENOENT, root, name)
            directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
            try:
                return {_LINK + name: program.attach_cgroup(directory)}
            finally:
                os.close(directory)
        return {_LINK + name: program.attach()}

    def _pinned(self, name: str) -> list[str]:
        """The pinned links of a program's hook; none unless its slot is there too."""
        if self._folder is None or not (self._folder / (_SLOT + name)).exists():
            return []
        found = [path.name for path in self._folder.iterdir() if path.name.startswith(_LINK)]
        return [link for link in found if link.removeprefix(_LINK).partition("-")[0] == name]

    def _drop_others(self, wanted: set[str]) -> None:
        """Hooks of an earlier agent that this one does without."""
        if self._folder is None:
            return
        for path in list(self._folder.iterdir()):
            name = path.name.partition("_")[2].partition("-")[0]
            if name not in wanted:
                path.unlink(missing_ok=True)

    def skipped(self) -> int:
        """Events for which the kernel did not run a hook's program: it was already running on that CPU."""
        return sum(program.recursion_misses() for program in self._doors)

    def _find_doors(self) -> None:
        if self._folder is None:
            self._doors = [program for name, program in self._kernel.programs.items() if name.startswith(_DOOR)]
            return
        paths = [path for path in self._folder.iterdir() if path.name.startswith(_DOOR)]
        self._doors = [libbpf.pinned_program(path, path.name, "") for path in paths]

    def detach(self) -> None:
        """Nothing hears any more. Raises OSError."""
        if self._folder is not None and self._folder.is_dir():
            for path in sorted(self._folder.iterdir()):
                path.unlink(missing_ok=True)
            self._folder.rmdir()
        for link in self._links.values():
            link.close()
        self._links.clear()

    def forget(self) -> None:
        """Close all descriptors; what is pinned goes on."""
        for link in self._links.values():
            link.close()
        self._links.clear()
        if self._folder is not None:
            for program in self._doors:
                os.close(program.fd)
        self._doors = []
