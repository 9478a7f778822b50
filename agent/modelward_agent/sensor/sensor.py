"""The sensor: one object in the kernel, its doors, its rings, and what the agent may ask of it."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import re
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from modelward_agent.hints.declaring import declare
from modelward_agent.sensor import libbpf, records
from modelward_agent.sensor.about import About
from modelward_agent.sensor.adopt import adopt_descendants, adopt_running, exclude, running_servers
from modelward_agent.sensor.attaching import Hooks
from modelward_agent.sensor.canary import prove
from modelward_agent.sensor.constants import Ring
from modelward_agent.sensor.doors import DoorReport, opens_on_demand
from modelward_agent.sensor.errors import SensorError
from modelward_agent.sensor.host import require_host
from modelward_agent.sensor.kernel import LIFECYCLE_MAPS, Kernel, about_this, load, pinned
from modelward_agent.sensor.loads import Loads
from modelward_agent.sensor.offers import check_host
from modelward_agent.sensor.pins import PinFolder, PinsUnavailableError
from modelward_agent.sensor.predecessor import Predecessor
from modelward_agent.sensor.probe_canary import prove_probes
from modelward_agent.sensor.probing import Probes
from modelward_agent.sensor.reading import DOOR_MISSES, Reader
from modelward_agent.sensor.rings import Drained
from modelward_agent.sensor.servers import EXTENSION_SIZE, NAME_SIZE, Lists, lists

if TYPE_CHECKING:
    from modelward_agent.hints.hint import Hint

log = logging.getLogger(__name__)

DEFAULT_RING_BYTES: dict[Ring, int] = {
    Ring.CONTROL: 1 << 20,
    Ring.CONTROL_LARGE: 4 << 20,
    Ring.EVENTS: 16 << 20,
    Ring.EVENTS_LARGE: 4 << 20,
}
"""Bytes of each ring: powers of two, at least a page."""

_WANT_CANARY = 4
_WANT_TEST = 8
"""``MW_WANT_CANARY`` and ``MW_WANT_TEST`` of ``agent/bpf/state.h``."""
_QUIET_NS = 100_000_000
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_CANARY_S = 5.0

__all__ = ["DEFAULT_RING_BYTES", "DoorReport", "Drained", "Sensor", "check_host"]


class Sensor(Reader):
    """Everything the kernel side gives, on one host. Not for use by several threads at once."""

    def __init__(self, kernel: Kernel, pins: PinFolder | None) -> None:
        super().__init__(kernel)
        self._pins = pins
        self._hooks = Hooks(kernel, pins.doors if pins else None)
        self._probes: Probes | None = None
        self._predecessors: list[Predecessor] = []
        self._sweep = ctypes.create_string_buffer(records.btf().size("mw_sweep_result"))
        self._groups_settled = 0
        self._demanded: dict[str, libbpf.Link] = {}
        self._loads = Loads(kernel)
        self._pid = 0
        """This process, as the kernel numbers it: in a container it may have another number."""
        self._excluded: tuple[int, ...] = ()

    @classmethod
    def open(
        cls, *, watch: Sequence[str] = (), ring_bytes: Mapping[Ring, int] | None = None, exclude_pids: Iterable[int] = (),
        without: Iterable[str] = (), pins: Path | None = None,
    ) -> Sensor:
        """Load the kernel side, attach what the host offers, then adopt the servers that run already; or go on with the kernel
        side that is pinned.

        Args:
            watch: base names of programs or scripts, or modules, to treat as servers beside the shipped list.
            ring_bytes: sizes that differ from ``DEFAULT_RING_BYTES``.
            exclude_pids: the agent's own processes: they and their descendants are never tracked.
            without: programs to leave out as if the kernel had refused them, so that the next door is taken.
            pins: folder in a bpf file system where all is pinned, so that hooks count on while no agent runs; None: nowhere. What
                another version pinned there gives way to this one, without a gap, and is a predecessor to be read to its end.

        Raises:
            SensorError: this host cannot run it; the message says what is missing.
        """
        require_host()
        names = lists(watch)
        without = tuple(without)
        folder = _pin_folder(pins) if pins else None
        olds: list[Kernel] = []
        try:
            path, about = about_this(DEFAULT_RING_BYTES | dict(ring_bytes or {}), without)
            olds = _found(folder)
            if olds and olds[-1].about.fingerprint == about.fingerprint and folder and folder.doors.is_dir():
                kernel = olds.pop()
            else:
                kernel = _load_beside(path, about, without, olds, folder)
        except BaseException:
            for old in olds:
                old.close()
            if folder:
                folder.close()
            raise
        sensor = cls(kernel, folder)
        try:
            sensor._begin(names, tuple(exclude_pids))
            sensor._predecessors = [Predecessor(old, folder) for old in olds if folder]
            sensor._take_over_misses()
        except BaseException:
            if olds:
                sensor.leave()
            else:
                sensor.close()
            raise
        return sensor

    def _begin(self, names: Lists, exclude_pids: tuple[int, ...]) -> None:
        """Everything of ``open`` that is done again by an agent that was killed in the middle of it."""
        self._excluded = exclude_pids
        _fill_lists(self._kernel, names)
        self._write_config()
        if not self._kernel.about.doors or not self._hooks.find():
            # Who is tracked must be known to the hooks that hear from now on, and none may come or go unheard meanwhile.
            if self._hooks.hand_over(("on_newtask", "on_exit")):
                self._adopt(names)
            self._kernel.note(self._kernel.about.with_doors(self._hooks.open()))
        self._adopt(names)
        self._probes = Probes(self._kernel, sees_processes=self._pid == os.getpid())

    def _adopt(self, names: Lists) -> None:
        """Find and tag the servers that run already; what is known is left as it is."""
        if all(name in self._kernel.programs for name in ("adopt", "announce", "rebuild", "find_files", "find_maps")):
            self._run_sweep()
            exclude(self._kernel, (self._pid if pid == os.getpid() else pid for pid in self._excluded))
            # In a PID namespace of its own it sees processes by numbers that are others' in the kernel.
            servers = running_servers(names) if self._pid == os.getpid() else ()
            adopt_running(self._kernel, servers, self._adopted, self._write_config)

    def _take_over_misses(self) -> None:
        """Doors are an earlier agent's, and so is their count of what they missed: what was told of it is not told again."""
        told = max((old.progress().told.get(DOOR_MISSES, 0) for old in self._predecessors), default=0)
        if told and not self._progress.step:
            self.keep(replace(self._progress, told={DOOR_MISSES: min(told, self._skipped())}))

    def predecessors(self) -> list[Predecessor]:
        """What other versions pinned, oldest first, and does not hear any more: to be read to the end, then closed."""
        return self._predecessors

    def _write_config(self, adoption: int = 0) -> None:
        offset = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        values = struct.pack("=QQII", offset, _QUIET_NS, adoption, self._groups_settled)
        self._kernel.map("config").update(struct.pack("=I", 0), values)

    def tick(self) -> None:
        """Make the transitions that are due because nothing happened (100 ms quiet). Cheap; to be called
        every 50 ms."""
        any_open, made, _adopted, any_young = self._run_sweep()
        self._demand("artifact_io", "on_artifact_io", any_open)
        self._demand("artifact_read", "on_first_read", any_young)
        self._loads.begin_late()
        if self._loads.due():
            self.look_for_unloads()
        if made != self._groups_settled:
            if self._sees("adopt"):
                adopt_descendants(self._kernel, self._adopted)
            self._groups_settled = made
            self._write_config()
        if self._probes is not None:
            self._probes.tick()

    def look_for_unloads(self) -> None:
        """See which processes no longer map the models that they had mapped; :meth:`tick` does so every two seconds."""
        if self._sees("unload"):
            self._loads.look(own_numbers=self._pid == os.getpid())

    def _run_sweep(self) -> tuple[bool, int, int, bool]:
        """Whether a scope is open, groups ever made, tasks ever adopted, whether a group is young."""
        self._kernel.programs["sweep"].run(self._sweep)
        any_open, made, adopted, self._pid, young = struct.unpack("=5I", self._sweep.raw)
        return bool(any_open), made, adopted, bool(young)

    def _adopted(self) -> int:
        return self._run_sweep()[2]

    def _sees(self, effect: str) -> bool:
        return any(report.effect == effect and report.door != "none" for report in self._kernel.about.doors)

    def _demand(self, effect: str, program: str, wanted: bool) -> None:
        """Reads matter only while a server loads or starts: where watching them costs every system call of the host, it is for no
        longer."""
        if wanted and program not in self._demanded and opens_on_demand(effect, self._kernel.about.doors):
            self._demanded[program] = self._kernel.programs[program].attach()
        elif not wanted and program in self._demanded:
            self._demanded.pop(program).close()

    def _drop_demanded(self) -> None:
        for link in self._demanded.values():
            link.close()
        self._demanded.clear()

    def register_artifacts(self, found: Iterable[tuple[int, int]]) -> int:
        """Let files be artifacts by (device, inode), as records name them: shards, external data, siblings. At most
        4,096 a call; returns how many were taken."""
        return self._loads.register(found)

    def late_load(self, tgid: int, tid: int, device: int, inode: int) -> bool:
        """A thread, or with ``tid`` 0 the main one (numbers as in records), was found to load a file that the kernel side did
        not know for an artifact: opens a scope, marked reconstructed. False when the thread has ended, is not tracked, or its
        process has that model already."""
        return self._sees("late_load") and self._loads.late(tid or tgid, device, inode)

    def late_loads(self, found: Iterable[tuple[int, int, int, int, int]]) -> int:
        """The same for many, as (process, thread, device, inode, group), with the next calls of :meth:`tick`; then the file is an
        artifact for that group. Where the thread has ended its process' main one is taken. Returns how many were taken on:
        1,024 wait at most."""
        return self._loads.ask(found) if self._sees("late_load") else 0

    def _skipped(self) -> int:
        return self._hooks.skipped()

    def programs(self) -> list[str]:
        """Names of the kernel programs."""
        return [name for name in (*self._kernel.programs, *self._kernel.about.refused) if not name.startswith("door_")]

    def doors(self) -> list[DoorReport]:
        """How each effect is seen here, and which functions of frameworks are probed."""
        return [*self._kernel.about.doors, *(self._probes.reports() if self._probes else ())]

    def track(self, pid: int) -> None:
        """Track a process and what it starts, though it is one of the agent's own: for the canary."""
        if not self._sees("adopt"):
            return  # reading an artifact will do, unless it descends from an excluded process
        self._wish(pid, _WANT_CANARY)
        adopt_descendants(self._kernel, self._adopted)

    def canary(self, id: str) -> None:
        """Start a program that does nothing, so that one record of kind ``HOST_CANARY`` with the arguments
        ``modelward-canary ID`` comes through the rings, and nothing else.

        Raises:
            ValueError: ``id`` is not 1 to 128 letters, digits, and ``. _ : -``.
            SensorError: the program cannot be started.
        """
        if not _ID.fullmatch(id):
            raise ValueError(f"id of a test alert: 1 to 128 letters, digits and ._:- are wanted, not {id[:200]!r}")
        self._run_sweep()
        own, before = self._pid, self._map_wanted(self._pid)
        self._wish(own, before | _WANT_TEST)
        try:
            program = shutil.which("true") or sys.executable
            subprocess.run(["modelward-canary", id], executable=program, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, timeout=_CANARY_S, check=False)
        except (OSError, subprocess.SubprocessError) as e:
            raise SensorError(f"the program of a test alert cannot be started: {e}") from e
        finally:
            self._wish(own, before)

    def declare(self, hint: Hint) -> None:
        """A process said which phase it is in: it is told of, and believed where that makes us stricter with it."""
        # In a PID namespace of its own the agent knows processes by other numbers than the kernel side.
        if self._pid == os.getpid():
            declare(self._kernel, hint)

    def _map_wanted(self, pid: int) -> int:
        with contextlib.suppress(OSError):
            return int(struct.unpack("=I", self._kernel.map("wanted").lookup(struct.pack("=I", pid), 4))[0])
        return 0

    def _wish(self, pid: int, wish: int) -> None:
        wanted, key = self._kernel.map("wanted"), struct.pack("=I", pid)
        if wish:
            wanted.update(key, struct.pack("=I", wish))
        else:
            wanted.delete(key)

    def prove(self) -> list[DoorReport]:
        """Provoke each effect in a child process and see which come out; returns the reports with ``proven``
        set."""
        return prove(self)

    def prove_probes(self) -> list[DoorReport]:
        """The same for probes, by libraries that a child process maps: one report for each family, how it is probed on this host.
        Takes seconds."""
        return prove_probes(self)

    def detach(self) -> None:
        """Hear nothing any more, for good; what is in the rings can still be drained. Raises OSError."""
        if not self._closed:
            self._end_probes()
            self._drop_demanded()
            self._hooks.detach()
            self._repeats.wait_for_writers()

    def _end_probes(self) -> None:
        if self._probes is not None:
            self._probes.close()
            self._probes = None

    def leave(self) -> None:
        """Let go of the kernel side and leave it pinned: its hooks count on, its rings fill. Without pins everything ends."""
        self._let_go()

    def close(self) -> None:
        """Detach everything and remove the pins. Records not yet drained are lost."""
        if not self._closed:
            self.detach()
            if self._pins:
                self._pins.remove_all()
        self._let_go()

    def _let_go(self) -> None:
        if self._closed:
            return
        self._end_probes()
        self._drop_demanded()
        self._hooks.forget()
        for old in self._predecessors:
            old.leave()
        self._close_reading()
        if self._pins:
            self._pins.close()


def _pin_folder(path: Path) -> PinFolder | None:
    try:
        return PinFolder.open(path)
    except PinsUnavailableError as e:
        log.warning("hooks will end with this agent", extra={"reason": str(e)})
        return None


def _found(folder: PinFolder | None) -> list[Kernel]:
    """What is pinned, oldest first. What cannot be used is removed: better a gap that is told than no agent."""
    if folder is None:
        return []
    found: list[Kernel] = []
    try:
        found += map(pinned, folder.generations())
    except SensorError as e:
        log.error("pins of an earlier agent are removed", extra={"reason": str(e)})
        for kernel in found:
            kernel.close()
        folder.clear()
        return []
    return found


def _load_beside(path: Path, about: About, without: tuple[str, ...], olds: list[Kernel], folder: PinFolder | None) -> Kernel:
    """Load the object, pin it, and take the lifecycle over from hooks that still hear, if it is kept in the same way.

    Raises:
        SensorError: the kernel refuses, or nothing can be pinned there.
    """
    lifecycle: dict[str, int] = {}
    if olds and folder and folder.doors.is_dir() and olds[-1].about.state == about.state:
        lifecycle = {name: olds[-1].map(name).fd for name in LIFECYCLE_MAPS}
    kernel = load(path, about, without, lifecycle)
    if folder is None:
        return kernel
    try:
        kernel.pin(folder.stage())
        kernel.folder = folder.finish()
    except OSError as e:
        kernel.close()
        raise SensorError(f"cannot pin anything in {folder.root}: {e.strerror}") from e
    return kernel


def _fill_lists(kernel: Kernel, names: Lists) -> None:
    """What the agent was told to look for, in place of what an earlier one was."""
    for name, size, entries in (
        ("programs", NAME_SIZE, names.programs), ("extensions", EXTENSION_SIZE, names.extensions),
        ("credentials", NAME_SIZE, dict.fromkeys(names.credentials, 1)), ("wanted", 4, {}),
    ):
        found = kernel.map(name)
        wanted = {text.ljust(size, b"\0"): struct.pack("=I", value) for text, value in entries.items()}
        for key, value in wanted.items():
            found.update(key, value)
        for key in set(found.keys()) - wanted.keys():
            found.delete(key)
