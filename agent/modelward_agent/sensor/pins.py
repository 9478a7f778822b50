"""Where the kernel side is kept while no agent runs: maps, programs and hooks, pinned in a folder of a bpf file system.

Below the folder of one agent: ``doors`` holds the hooks, each with the slot of the program it runs; ``00000001`` and so on a
loaded object each, in the order in which they came. More than one stands there only during an upgrade.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from modelward_agent.sensor import mounts
from modelward_agent.sensor.errors import SensorError

PINS = mounts.BPFFS / "modelward"
"""Of the agent with the default state folder."""

_DEFAULT_STATE = Path("/var/lib/modelward-agent")
_DOORS = "doors"
_UNFINISHED = "unfinished"


def folder_of(state: Path) -> Path:
    """Pins of the agent that has this state folder: each has its own, as positions in its spool are of its rings."""
    state = Path(os.path.realpath(state))
    return PINS if state == _DEFAULT_STATE else PINS.with_name(f"modelward-{hashlib.sha256(os.fsencode(state)).hexdigest()[:12]}")


def present(root: Path = PINS) -> bool:
    """Whether anything is pinned there."""
    try:
        return any(root.iterdir())
    except OSError:
        return False


def remove(root: Path = PINS) -> list[str]:
    """Take every pin away: what no running agent holds ends at once. Returns what was removed; the hooks first, as programs
    without one do nothing.

    Raises:
        SensorError: something could not be removed.
    """
    removed: list[str] = []
    try:
        _remove(root / _DOORS, removed)
        _remove(root, removed)
    except OSError as e:
        raise SensorError(f"cannot remove the pins in {root}: {e.strerror}") from e
    return removed


def _own(root: Path, descriptor: int) -> None:
    """Make sure that the folder is ours alone. Where everybody may write to a bpf file system, as its mount without a mode lets
    them, whoever made the folder first could take the hooks away."""
    if not mounts.is_bpffs(root):
        raise SensorError(f"cannot use the pin folder {root}: it is not in a bpf file system, such as {mounts.BPFFS}")
    owner = os.fstat(descriptor).st_uid
    if owner != os.geteuid():
        raise SensorError(f"cannot use the pin folder {root}: it belongs to user {owner}; remove it, and let nobody but root "
                          f"write to {mounts.BPFFS}: 'mount -o remount,mode=0700 {mounts.BPFFS}'")
    try:
        os.fchmod(descriptor, 0o700)
    except OSError as e:
        raise SensorError(f"cannot use the pin folder {root}: {e.strerror}") from e


def _remove(folder: Path, removed: list[str]) -> None:
    if folder.is_symlink() or not folder.is_dir():
        return
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            _remove(entry, removed)
        else:
            entry.unlink(missing_ok=True)
            removed.append(str(entry))
    folder.rmdir()
    removed.append(str(folder))


class PinsUnavailableError(SensorError):
    """This host has no place to pin anything."""


@dataclass
class PinFolder:
    """A folder of pins, held by this process alone until it is closed or the process ends."""

    root: Path
    _descriptor: int

    @classmethod
    def open(cls, root: Path) -> PinFolder:
        """Take the folder, or make it; what an agent that was killed left half done is removed.

        Raises:
            PinsUnavailableError: this host has no bpf file system.
            SensorError: another agent or another user holds the folder, or it is not in a bpf file system.
        """
        if failure := mounts.bpffs():
            raise PinsUnavailableError(failure)
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as e:
            raise SensorError(f"cannot use the pin folder {root}: {e.strerror}") from e
        try:
            _own(root, descriptor)
        except SensorError:
            os.close(descriptor)
            raise
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            os.close(descriptor)
            raise SensorError(f"another agent uses the pin folder {root}: stop it, or give this one another --pins") from e
        folder = cls(root, descriptor)
        try:
            _remove(root / _UNFINISHED, [])
        except OSError as e:
            folder.close()
            raise SensorError(f"cannot use the pin folder {root}: {e.strerror}") from e
        return folder

    @property
    def doors(self) -> Path:
        return self.root / _DOORS

    def generations(self) -> list[Path]:
        """Folders of loaded objects, the oldest first."""
        return sorted(path for path in self.root.iterdir() if path.name.isdigit())

    def stage(self) -> Path:
        """A folder to pin a new generation in, that counts only once it is :meth:`finish`-ed. Raises OSError."""
        unfinished = self.root / _UNFINISHED
        unfinished.mkdir(mode=0o700)
        return unfinished

    def finish(self) -> Path:
        """The staged generation is whole. Raises OSError."""
        last = max((int(path.name) for path in self.generations()), default=0)
        made = self.root / f"{last + 1:08d}"
        (self.root / _UNFINISHED).rename(made)
        return made

    def remove(self, folder: Path) -> None:
        """Raises OSError."""
        _remove(folder, [])

    def clear(self) -> None:
        """Remove everything in it. Raises OSError."""
        _remove(self.doors, [])
        for path in self.generations():
            _remove(path, [])

    def remove_all(self) -> None:
        """Remove everything, and the folder. Raises SensorError."""
        remove(self.root)

    def close(self) -> None:
        """Give the folder back; an empty one is removed."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                self.root.rmdir()
            os.close(self._descriptor)
            self._descriptor = -1
