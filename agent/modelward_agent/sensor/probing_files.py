"""The files that are probed: which functions each has, and the links that hold the probes."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from modelward_agent.probes.locating import LocateError, Locator
from modelward_agent.probes.mappings import Mapped, unanswering
from modelward_agent.probes.table import FAMILIES, Function, Means, numbered
from modelward_agent.sensor import libbpf, uprobes

_MOST = 256
_UNUSED_S = 30.0
"""How long a file that no process maps any more stays probed, for a server that is started again. Its mount is held that long."""

_NUMBERS = {(family.name, function.name): number for number, family, function in numbered()}


@dataclass
class ProbedFile:
    """A library, or a program with one linked into it."""

    key: tuple[int, int, int]
    """Device, inode and family."""
    family: int
    name: str
    fd: int = -1
    offsets: dict[str, int] = field(default_factory=dict)
    """by the name of a function for people"""
    attached: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    links: list[libbpf.Link] = field(default_factory=list)
    pids: set[int] = field(default_factory=set)
    unused_since: float = 0.0

    @property
    def functions(self) -> list[Function]:
        return [function for function in FAMILIES[self.family].functions if function.name in self.offsets]


class ProbedFiles:
    """Owner of the programs, of a descriptor for each file, and of the links on whole files."""

    def __init__(self, programs: Mapping[str, libbpf.Program], *, many: bool) -> None:
        """``programs``: ``probe_call`` and ``probe_return``."""
        self._programs = programs
        self._many = many
        self._locator = Locator()
        self._files: dict[tuple[int, int, int], ProbedFile] = {}
        self._left: dict[int, str] = {}
        """Why files of a family are not probed at all."""

    def take(self, library: Mapped, pid: int, proc: Path = Path("/proc")) -> ProbedFile | None:
        """The file that a process maps, probed. None when it cannot be: :meth:`state` says why."""
        if library.problem:
            self._left[library.family] = f"{library.name} {library.problem}"
            return None
        try:
            fd = _open(library, pid, proc)
        except OSError as e:
            self._left[library.family] = f"{library.name} cannot be opened: {e.strerror}"
            return None
        about = os.fstat(fd)
        # The name is the workload's: another one of the same file must not decide what is looked for in it.
        key = (about.st_dev, about.st_ino, library.family)
        file = self._files.get(key)
        if file is not None:
            os.close(fd)
        elif len(self._files) >= _MOST:
            os.close(fd)
            self._left[library.family] = f"{library.name}: {_MOST} files are probed already"
            return None
        else:
            file = self._files[key] = ProbedFile(key, library.family, library.name, fd)
            self._probe(file)
        file.pids.add(pid)
        return file

    def _probe(self, file: ProbedFile) -> None:
        functions = FAMILIES[file.family].functions
        names = [name for function in functions for name in function.alternatives]
        try:
            found = self._locator.functions(file.fd, names)
        except LocateError as e:
            file.problems.append(f"{file.name} {e}")
            return
        for function in functions:
            # Names of one function may stand for one place, and different functions too.
            for name in function.alternatives:
                if name in found and found[name] not in file.offsets.values():
                    file.offsets[function.name] = found[name]
                    break
        if not file.offsets:
            file.problems.append(f"{file.name} has none of the functions, or no names of them")
        refused = uprobes.returns_refused()
        whole = [function for function in file.functions if not function.hot]
        if refused and any(function.means is Means.LOAD for function in whole):
            file.problems.append(refused)
            whole = [function for function in whole if function.means is not Means.LOAD]
        file.links += self._attach(file, "probe_return", [f for f in whole if f.means is Means.LOAD])
        file.links += self._attach(file, "probe_call", whole)

    def attach_hot(self, file: ProbedFile, means: Means, pid: int) -> list[libbpf.Link]:
        """Probe a file's functions that run for each token or launch, in one process."""
        return self._attach(file, "probe_call", [f for f in file.functions if f.hot and f.means is means], pid)

    def _attach(self, file: ProbedFile, program: str, functions: list[Function], pid: int = 0) -> list[libbpf.Link]:
        """All of them, or as many as the kernel takes."""
        if not functions:
            return []
        at_return = program == "probe_return"
        family = FAMILIES[file.family].name
        places = {f.name: (file.offsets[f.name], _NUMBERS[family, f.name]) for f in functions}
        try:
            links = uprobes.attach(self._programs[program], file.fd, list(places.values()), at_return=at_return, pid=pid,
                                   many=self._many)
        except OSError:
            links = []
            for name, place in places.items():
                try:
                    links += uprobes.attach(self._programs[program], file.fd, [place], at_return=at_return, pid=pid,
                                            many=self._many)
                    file.attached.add(name)
                except OSError as e:
                    unless = " (before Linux 6.6 that wants CAP_SYS_ADMIN)" if e.errno == errno.EACCES and not self._many else ""
                    file.problems.append(f"{name} in {file.name}: {e.strerror}{unless}")
        else:
            file.attached |= places.keys()
        return links

    def release(self, pid: int) -> None:
        """A process is gone."""
        for file in self._files.values():
            if pid in file.pids:
                file.pids.remove(pid)
                file.unused_since = time.monotonic()

    def drop_unused(self) -> None:
        """Give up files that nobody has mapped for a while."""
        now = time.monotonic()
        for file in [f for f in self._files.values() if not f.pids and now - f.unused_since > _UNUSED_S]:
            self._give_up(file)
            del self._files[file.key]

    def state(self) -> tuple[list[ProbedFile], dict[int, str]]:
        """The files, and why others of a family are not among them."""
        return list(self._files.values()), dict(self._left)

    def close(self) -> None:
        """Give everything up."""
        for file in self._files.values():
            self._give_up(file)
        self._files.clear()
        for program in self._programs.values():
            with contextlib.suppress(OSError):
                os.close(program.fd)

    def _give_up(self, file: ProbedFile) -> None:
        for link in file.links:
            link.close()
        file.links.clear()
        os.close(file.fd)


def _open(library: Mapped, pid: int, proc: Path) -> int:
    """By a reference first: what lies at that address may be another file by now, of whoever may let an open wait for ever.

    Raises:
        OSError: it cannot or must not be opened.
    """
    reference = os.open(library.path, os.O_PATH | os.O_CLOEXEC)
    try:
        if problem := unanswering(reference, pid, proc):
            raise OSError(errno.EPERM, problem)
        return os.open(f"/proc/self/fd/{reference}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    finally:
        os.close(reference)
