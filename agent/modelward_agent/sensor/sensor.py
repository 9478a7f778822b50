"""The sensor: one object in the kernel, its doors, its rings, and what the agent may ask of it."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
import time
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from modelward_proto.kinds import EVENT_NAMES

from modelward_agent.sensor import libbpf, mounts, records
from modelward_agent.sensor.adopt import adopt_descendants, adopt_running, exclude
from modelward_agent.sensor.canary import prove
from modelward_agent.sensor.constants import Ring
from modelward_agent.sensor.doors import EFFECTS, Door, DoorReport, Effect
from modelward_agent.sensor.errors import SensorError
from modelward_agent.sensor.host import kernel_has, require_host
from modelward_agent.sensor.offers import check_host
from modelward_agent.sensor.repeats import Repeats
from modelward_agent.sensor.rings import Drained, RingReader, Rings
from modelward_agent.sensor.servers import EXTENSION_SIZE, NAME_SIZE, Lists, lists

DEFAULT_RING_BYTES: dict[Ring, int] = {
    Ring.CONTROL: 1 << 20,
    Ring.CONTROL_LARGE: 4 << 20,
    Ring.EVENTS: 16 << 20,
    Ring.EVENTS_LARGE: 4 << 20,
}
"""Bytes of each ring: powers of two, at least a page."""

_RING_MAPS = {
    Ring.CONTROL: "ring_control",
    Ring.CONTROL_LARGE: "ring_control_large",
    Ring.EVENTS: "ring_events",
    Ring.EVENTS_LARGE: "ring_events_large",
}
_WANT_CANARY = 4
"""``MW_WANT_CANARY`` of ``agent/bpf/state.h``."""
_HOPS = ("seen", "missed", "merged", "ring_dropped")
_QUIET_NS = 100_000_000


__all__ = ["DEFAULT_RING_BYTES", "DoorReport", "Drained", "Sensor", "check_host", "load"]


class Sensor:
    """Everything the kernel side gives, on one host. Not for use by several threads at once."""

    def __init__(self, kernel: libbpf.Object, refused: dict[str, str], ring_bytes: Mapping[Ring, int]) -> None:
        self._kernel = kernel
        self._refused = refused
        self._links: dict[str, libbpf.Link] = {}
        self._reports: dict[str, DoorReport] = {}
        readers = [
            RingReader(ring, kernel.map(name).fd, ring_bytes[ring],
                       records.LARGE if ring in (Ring.CONTROL_LARGE, Ring.EVENTS_LARGE) else records.SMALL)
            for ring, name in _RING_MAPS.items()
        ]
        self._rings = Rings(readers, records.SMALL, records.LARGE)
        self._repeats = Repeats(kernel.map("generations"), (kernel.map("generation_a"), kernel.map("generation_b")))
        self._cpus = libbpf.possible_cpus()
        self._sweep = ctypes.create_string_buffer(records.btf().size("mw_sweep_result"))
        self._groups_made = 0

    @classmethod
    def open(
        cls, *, watch: Sequence[str] = (), ring_bytes: Mapping[Ring, int] | None = None, exclude_pids: Iterable[int] = (),
        without: Iterable[str] = (),
    ) -> Sensor:
        """Load the kernel side, attach what the host offers, then adopt the servers that run already.

        Args:
            watch: base names of programs or scripts, or modules, to treat as servers beside the shipped list.
            ring_bytes: sizes that differ from ``DEFAULT_RING_BYTES``.
            exclude_pids: the agent's own processes: they and their descendants are never tracked.
            without: programs to leave out as if the kernel had refused them, so that the next door is taken.

        Raises:
            SensorError: this host cannot run it; the message says what is missing.
        """
        require_host()
        sizes = DEFAULT_RING_BYTES | dict(ring_bytes or {})
        names = lists(watch)
        tracefs = mounts.tracefs()
        kernel, refused = load(sizes, without)
        sensor = cls(kernel, refused, sizes)
        try:
            sensor._fill_lists(names)
            sensor._write_config()
            for effect in EFFECTS:
                sensor._reports[effect.name] = sensor._take_door(effect, tracefs)
            if sensor._reports["adopt"].door != "none":
                exclude(kernel, exclude_pids)
                adopt_running(kernel, names, sensor._adopted, sensor._write_config)
        except BaseException:
            sensor.close()
            raise
        return sensor

    def _fill_lists(self, names: Lists) -> None:
        programs, extensions = self._kernel.map("programs"), self._kernel.map("extensions")
        for name, how in names.programs.items():
            programs.update(name.ljust(NAME_SIZE, b"\0"), struct.pack("=I", how))
        for extension, rule in names.extensions.items():
            extensions.update(extension.ljust(EXTENSION_SIZE, b"\0"), struct.pack("=I", rule))
        credentials = self._kernel.map("credentials")
        for name in names.credentials:
            credentials.update(name.ljust(NAME_SIZE, b"\0"), struct.pack("=I", 1))

    def _write_config(self, adoption: int = 0) -> None:
        offset = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self._kernel.map("config").update(struct.pack("=I", 0), struct.pack("=QQII", offset, _QUIET_NS, adoption, 0))

    def _take_door(self, effect: Effect, tracefs: str | None) -> DoorReport:
        reasons = [effect.better] if effect.better else []
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
        links: dict[str, libbpf.Link] = {}
        try:
            for name in door.programs:
                if reason := self._refused.get(name):
                    return f"{name}: {reason}"
                if name not in self._kernel.programs:
                    return f"{name}: not in this kernel object"
                links |= self._attach_program(self._kernel.programs[name], door)
        except OSError as e:
            for link in links.values():
                link.destroy()
            return f"{name}: {e.strerror}"
        self._links |= links
        return None

    def _attach_program(self, program: libbpf.Program, door: Door) -> dict[str, libbpf.Link]:
        """Raises OSError."""
        name = program.name
        if door.on_demand or program.section.startswith(("syscall", "iter")):
            return {}
        if name in door.tracepoints:
            links: dict[str, libbpf.Link] = {}
            for tracepoint in door.tracepoints[name]:
                with contextlib.suppress(FileNotFoundError):
                    links[f"{name}/{tracepoint}"] = program.attach_tracepoint("syscalls", tracepoint)
            if not links:
                raise FileNotFoundError(errno.ENOENT, "no such tracepoint", name)
            return links
        if program.section.startswith("cgroup/"):
            root = mounts.cgroup2()
            if isinstance(root, str):
                raise OSError(errno.ENOENT, root, name)
            directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
            try:
                return {name: program.attach_cgroup(directory)}
            finally:
                os.close(directory)
        return {name: program.attach()}

    def drain(self, max_records: int = 65536) -> Drained:
        """What came since the last drain, at most ``max_records`` per ring of small records. Never blocks."""
        return self._rings.drain(max_records)

    def commit(self, positions: Mapping[int, int]) -> None:
        """Let the kernel overwrite what was drained up to ``positions``: only once it is safe on disk."""
        self._rings.commit(positions)

    def wait(self, timeout_s: float) -> None:
        """Sleep until records wait, looking every 20 ms; at most ``timeout_s``."""
        end = time.monotonic() + timeout_s
        while not self._rings.waiting() and (left := end - time.monotonic()) > 0:
            time.sleep(min(0.02, left))

    def tick(self) -> None:
        """Make the transitions that are due because nothing happened (100 ms quiet). Cheap; to be called
        every 50 ms."""
        open_scopes, made = self._run_sweep()[:2]
        self._watch_io(open_scopes > 0)
        if made != self._groups_made:
            self._groups_made = made
            self._write_config()
            if self._reports["adopt"].door != "none":
                adopt_descendants(self._kernel, self._adopted)

    def _run_sweep(self) -> tuple[int, int, int]:
        """Open scopes, groups ever made, tasks ever adopted."""
        self._kernel.programs["sweep"].run(self._sweep)
        open_scopes, _live, made, adopted = struct.unpack("=4I", self._sweep.raw)
        return open_scopes, made, adopted

    def _adopted(self) -> int:
        return self._run_sweep()[2]

    def _watch_io(self, wanted: bool) -> None:
        """Reads of artifacts matter only while a load is open, and watching them costs every system call of
        the host."""
        name = "on_artifact_io"
        if self._reports["artifact_io"].door == "none":
            return
        if wanted and name not in self._links:
            self._links[name] = self._kernel.programs[name].attach()
        elif not wanted and name in self._links:
            self._links.pop(name).destroy()

    def swap_repeats(self) -> npt.NDArray[np.void]:
        """Counts of the effects that were equal to one that went out before, as SMALL records flagged
        REPEATS. To be called every second."""
        return self._repeats.swap()

    def counters(self) -> dict[tuple[str, str], int]:
        """(hop, event name) to count since the load, for the hops seen, missed, merged and ring_dropped;
        zeros are left out."""
        kinds = records.btf().enum("mw_kind")["MW_KIND_MAX"]
        found: dict[tuple[str, str], int] = {}
        counters = self._kernel.map("counters")
        for number, hop in enumerate(_HOPS):
            for kind, name in EVENT_NAMES.items():
                if kind >= kinds:
                    continue
                raw = counters.lookup(struct.pack("=I", number * kinds + kind), 8 * self._cpus)
                if total := int(np.frombuffer(raw, np.uint64).sum()):
                    found[hop, name] = total
        skipped = sum(p.recursion_misses() for p in self._kernel.programs.values() if p.name not in self._refused)
        if skipped:
            found["missed", "all"] = skipped
        return found

    def programs(self) -> list[str]:
        """Names of the kernel programs."""
        return list(self._kernel.programs)

    def doors(self) -> list[DoorReport]:
        """How each effect is seen here."""
        return list(self._reports.values())

    def track(self, pid: int) -> None:
        """Track a process and what it starts, though it is one of the agent's own: for the canary."""
        if self._reports["adopt"].door == "none":
            return  # reading an artifact will do, unless it descends from an excluded process
        self._kernel.map("wanted").update(struct.pack("=I", pid), struct.pack("=I", _WANT_CANARY))
        adopt_descendants(self._kernel, self._adopted)

    def prove(self) -> list[DoorReport]:
        """Provoke each effect in a child process and see which come out; returns the reports with ``proven``
        set."""
        return prove(self)

    def close(self) -> None:
        """Detach everything. Records not yet drained are lost."""
        for link in self._links.values():
            link.destroy()
        self._links.clear()
        self._rings.close()
        self._kernel.close()


def load(ring_bytes: Mapping[Ring, int], without: Iterable[str] = ()) -> tuple[libbpf.Object, dict[str, str]]:
    """Load the object without the programs that this kernel refuses; returns it with them and why.

    Raises:
        SensorError: nothing is left to leave out, and the kernel still refuses.
    """
    path = records.OBJECT if kernel_has("bpf_rdonly_cast") else records.PLAIN_OBJECT
    refused = dict.fromkeys(without, "left out as asked")
    while True:
        kernel = libbpf.Object(path)
        for name in refused:
            kernel.programs[name].skip()
        for ring, name in _RING_MAPS.items():
            kernel.map(name).resize(ring_bytes[ring])
        error = kernel.load()
        if not error:
            return kernel, refused
        news = {name: why for name, why in kernel.log.refused().items() if name not in refused and name in kernel.programs}
        lines = kernel.log.take()
        kernel.close()
        if not news:
            raise SensorError(f"the kernel refuses the object: {os.strerror(error)}: " + " | ".join(lines[-3:]))
        if error in (errno.EPERM,) and len(refused) > len(kernel.programs) - 2:
            raise SensorError("the kernel refuses every program with EPERM: a lockdown or a security module forbids bpf()")
        refused |= news
