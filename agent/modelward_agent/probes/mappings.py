"""Which libraries that probes know a process has mapped, read from its maps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from modelward_agent.probes.table import family_of

_MAPS, _MOUNTS = 16 << 20, 4 << 20
_MOST = 16
"""Libraries of one process: a real one has less than ten."""
_SERVED = (b"fuse", b"9p", b"virtiofs")
"""Beginnings of the names of file systems that answer when somebody in user space wants to."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """A file with code of a process, or the program itself."""

    family: int
    name: str
    path: Path
    """opens the very file, whatever lies at its name by now"""
    problem: str = ""
    """why it must not be opened; empty when it may"""


def mapped(pid: int, proc: Path = Path("/proc")) -> list[Mapped]:
    """Each file once.

    Raises:
        OSError: the process is gone or may not be looked at.
    """
    own = proc / str(pid)
    text = _read(own / "maps", _MAPS)
    found: dict[tuple[bytes, bytes], Mapped] = {}
    systems: dict[bytes, bytes] | None = None
    for line in text.splitlines():
        # address perms offset dev inode path; a path may have spaces
        parts = line.split(maxsplit=5)
        if len(parts) < 6 or b"x" not in parts[1] or len(found) >= _MOST or (parts[3], parts[4]) in found:
            continue
        name = parts[5].removesuffix(b" (deleted)").rpartition(b"/")[2]
        family = family_of(name)
        if family < 0:
            continue
        if systems is None:
            systems = _file_systems(own)
        # maps shows addresses with leading zeros, map_files without
        try:
            span = "-".join(f"{int(end, 16):x}" for end in parts[0].split(b"-"))
            number = b"%d:%d" % tuple(int(part, 16) for part in parts[3].split(b":"))
        except (ValueError, TypeError):
            continue
        found[parts[3], parts[4]] = Mapped(family, name.decode("utf-8", "backslashreplace"), own / "map_files" / span,
                                           _problem(systems.get(number, b"")))
    return list(found.values())


def unanswering(reference: int, pid: int, proc: Path = Path("/proc")) -> str:
    """Why a file that a process maps must not be opened, though it is the one that a reference (O_PATH) stands for; empty when it
    may. Only the kernel is asked: a mount that a reference holds keeps its number, whatever the process does meanwhile.

    Raises:
        OSError: the process is gone or may not be looked at.
    """
    told = _read(Path("/proc/self/fdinfo") / str(reference), 4096).split()
    number = told[told.index(b"mnt_id:") + 1]
    hosts = [mount for own in ("self", "1") for mount in _mounts(Path("/proc") / own)]
    # A process in a root of its own is not shown all mounts that it uses.
    device, system = next((about for mount, *about in [*_mounts(proc / str(pid)), *hosts] if mount == number), (b"", b""))
    if system == b"overlay" and device not in {device for _, device, _ in hosts}:
        # Anybody may mount one in a user namespace, and over what they serve themselves.
        return "lies on an overlay that is no mount of the host's"
    return _problem(system)


def _problem(system: bytes) -> str:
    if not system:
        return "lies on a file system that is mounted nowhere"
    if system.startswith(_SERVED):
        return "lies on a file system that may not answer"
    return ""


def _file_systems(own: Path) -> dict[bytes, bytes]:
    """Types of what is mounted for a process, by device number as mountinfo writes it. Raises OSError."""
    return {device: system for _, device, system in _mounts(own)}


def _mounts(own: Path) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Number, device and type of each. Raises OSError."""
    for line in _read(own / "mountinfo", _MOUNTS).splitlines():
        before, _, after = line.partition(b" - ")
        parts = before.split()
        if len(parts) > 2 and after:
            yield parts[0], parts[2], after.split()[0]


def _read(path: Path, most: int) -> bytes:
    with open(path, "rb") as file:
        return file.read(most)
