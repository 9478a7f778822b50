"""Opens an artifact of a workload without being led astray by that workload.

The path is hostile: it may end in a FIFO or a device, lead out of the container by a symbolic link, or hold another file by
now. So it is resolved below the process's own root without magic links, as a reference that cannot block or have an effect;
only a regular file that has the device and inode that the kernel reported is then opened for reading.
"""

from __future__ import annotations

import ctypes
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from modelward_agent.identity.file_systems import has_own_devices

_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS, _RESOLVE_IN_ROOT = 0x02, 0x10
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_HELD = 4096
_MAPS = 8 << 20

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class ArtifactError(Exception):
    """An artifact cannot be read.

    ├── ArtifactGone: neither its process nor the host has a file of that path
    └── ArtifactChanged: there is something else at that path now, or it is no regular file
    """


class ArtifactGone(ArtifactError):
    """No file of that path, or it may not be opened."""


class ArtifactChanged(ArtifactError):
    """The path holds something else than what the kernel reported."""


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


@dataclass(frozen=True, slots=True)
class Place:
    """A root folder below which paths of a workload are resolved. Owns the descriptor."""

    root: int

    def reference(self, path: bytes) -> int:
        """An O_PATH descriptor of whatever is at ``path`` below the root.

        Raises:
            OSError: there is nothing, or a link on the way is magic (/proc/PID/fd and its like).
        """
        how = _How(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
        relative = path.lstrip(b"/") or b"."
        fd = _libc.syscall(_OPENAT2, self.root, ctypes.c_char_p(relative), ctypes.byref(how), ctypes.sizeof(how))
        if fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
        return int(fd)

    def holds(self, path: bytes) -> bool:
        """Whether anything lies at ``path``."""
        try:
            os.close(self.reference(path))
        except (OSError, ValueError):
            return False
        return True

    def has(self, path: bytes) -> bool:
        """Whether a regular file lies at ``path``."""
        try:
            fd = self.reference(path)
        except (OSError, ValueError):
            return False
        try:
            return stat.S_ISREG(os.fstat(fd).st_mode)
        finally:
            os.close(fd)

    def read(self, path: bytes, most: int) -> bytes:
        """The start of a regular file; empty when there is none."""
        file = self.file(path)
        if file < 0:
            return b""
        try:
            return os.read(file, most)
        except OSError:
            return b""
        finally:
            os.close(file)

    def file(self, path: bytes) -> int:
        """A descriptor to read a regular file by; -1 when there is none."""
        try:
            fd = self.reference(path)
        except (OSError, ValueError):
            return -1
        try:
            return readable(fd)
        except (OSError, ArtifactError):
            return -1
        finally:
            os.close(fd)

    def folder(self, path: bytes) -> int:
        """A descriptor to list a folder by; -1 when there is none."""
        try:
            fd = self.reference(path)
        except (OSError, ValueError):
            return -1
        try:
            return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return -1
        finally:
            os.close(fd)

    def names(self, path: bytes, most: int) -> list[bytes]:
        """Names in a folder, at most so many; none when it is no folder."""
        fd = self.folder(path)
        if fd < 0:
            return []
        try:
            return names_in(fd, most)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Give the root's descriptor back."""
        os.close(self.root)


def names_in(fd: int, most: int) -> list[bytes]:
    """Names in an open folder, at most so many, sorted."""
    found: list[bytes] = []
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                if len(found) >= most:
                    break
                found.append(os.fsencode(entry.name))
    except OSError:
        pass
    return sorted(found)


def places(pid: int, start_ns: int, proc: Path = Path("/proc")) -> list[Place]:
    """Where to look for a path of a process: its own root if it still lives, then the agent's."""
    found: list[Place] = []
    if pid > 0 and (root := _root_of(pid, start_ns, proc)) is not None:
        found.append(Place(root))
    found.append(Place(os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)))
    return found


def find_artifact(place: Place, path: bytes, device: int, inode: int) -> int:
    """A reference (O_PATH) to the artifact, which :func:`readable` opens.

    Args:
        device: the kernel's s_dev (major << 20 | minor).

    Raises:
        ArtifactGone, ArtifactChanged
    """
    try:
        reference = place.reference(path)
    except (OSError, ValueError) as e:
        raise ArtifactGone(f"cannot be opened: {getattr(e, 'strerror', None) or e}") from e
    try:
        if not stat.S_ISREG(os.fstat(reference).st_mode):
            raise ArtifactChanged("is no regular file")
        if not _is(reference, device, inode):
            raise ArtifactChanged("is another file by now")
    except BaseException:
        os.close(reference)
        raise
    return reference


def readable(reference: int) -> int:
    """Open what a reference stands for. It must be a regular file: then this neither blocks nor acts.

    Raises:
        ArtifactChanged, OSError
    """
    if not stat.S_ISREG(os.fstat(reference).st_mode):
        raise ArtifactChanged("is no regular file")
    return os.open(f"/proc/self/fd/{reference}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def held_artifact(pid: int, start_ns: int, device: int, inode: int, proc: Path = Path("/proc")) -> int:
    """A reference to an artifact that has no path any more, through the process that has it open or mapped.

    Raises:
        ArtifactGone: the process is gone or does not hold it.
    """
    own = proc / str(pid)
    for held in (*_entries(own / "fd"), *_mappings(own, device, inode)):
        try:
            reference = os.open(held, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        if _is(reference, device, inode) and _started(own) == start_ns // _TICK_NS:
            return reference
        os.close(reference)
    raise ArtifactGone("is gone, and its process does not hold it")


def _entries(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [Path(entry.path) for entry, _ in zip(entries, range(_HELD), strict=False)]
    except OSError:
        return []


def _mappings(own: Path, device: int, inode: int) -> list[Path]:
    """Where in map_files a process maps an inode."""
    numbers = f"{device >> 20:02x}:{device & 0xFFFFF:02x} {inode} ".encode()
    try:
        with open(own / "maps", "rb") as file:
            text = file.read(_MAPS)
    except OSError:
        return []
    spans = [line.split(b" ", 1)[0] for line in text.splitlines() if numbers in line]
    # maps shows addresses with leading zeros, map_files without
    return [own / "map_files" / "-".join(f"{int(end, 16):x}" for end in span.split(b"-")) for span in spans[:4]]


def lives(pid: int, start_ns: int, proc: Path = Path("/proc")) -> bool:
    """Whether a process is still there."""
    return _started(proc / str(pid)) == start_ns // _TICK_NS


def _root_of(pid: int, start_ns: int, proc: Path) -> int | None:
    """The root folder of a process, if the pid still belongs to the one that started then.

    The start is compared after the root was opened: then the root cannot be that of a later process.
    """
    own = proc / str(pid)
    try:
        root = os.open(own / "root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    if _started(own) == start_ns // _TICK_NS:
        return root
    os.close(root)
    return None


def _started(own: Path) -> int:
    """Start time in clock ticks; -1 when it is gone."""
    try:
        with open(own / "stat", "rb") as file:
            return int(file.read(4096).rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return -1


def _is(reference: int, device: int, inode: int) -> bool:
    about = os.fstat(reference)
    same_device = (os.major(about.st_dev) << 20 | os.minor(about.st_dev)) == device
    return about.st_ino == inode and (same_device or has_own_devices(reference))
