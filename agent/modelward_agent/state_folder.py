"""The small files beside the spool: whether an operator paused the agent, how its last runs ended, and how it stands now.

They are how commands and the running agent talk: a file works when the agent hangs, survives a restart, and needs no listener.
A full disk may refuse any of them; that is never a reason to stop.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from modelward_agent.spool.folder import write_durably

log = logging.getLogger(__name__)

CRASH_WINDOW_S = 600.0
MAX_FILE = 1 << 16
MAX_REASON = 500

WATCHING, PAUSED, DEGRADED = "watching", "paused", "degraded"
"""Modes, as the heartbeat names them."""


@dataclass(frozen=True)
class Pause:
    """An operator's wish that no hook be attached."""

    reason: str
    by: str
    at: float
    """Wall clock, seconds."""

    def words(self) -> str:
        who = f" by {self.by}" if self.by else ""
        when = time.strftime(" on %Y-%m-%d at %H:%M UTC", time.gmtime(self.at)) if self.at else ""
        return f"paused{who}{when}" + (f": {self.reason}" if self.reason else "")


@dataclass(frozen=True)
class Standing:
    """How a running agent stands, as it last wrote it down."""

    pid: int
    mode: str
    reason: str


class StateFolder:
    """The files by name. Reading never fails: what cannot be read or understood counts as not there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._paused = path / "paused"
        self._runs = path / "crashes"
        self._standing = path / "mode"

    def paused(self) -> Pause | None:
        """The operator's wish. Cheap while there is none. A file without content, as a full disk leaves it, is a wish too."""
        if not self._paused.exists():
            return None
        values = _read(self._paused)
        at = values.get("at")
        return Pause(
            str(values.get("reason", ""))[:MAX_REASON], str(values.get("by", ""))[:64],
            float(at) if isinstance(at, (int, float)) and 0 < at < 1 << 40 else 0.0,
        )

    def pause(self, wish: Pause) -> None:
        """Raises OSError."""
        try:
            write_durably(self._paused, json.dumps(asdict(wish)).encode())
        except OSError:
            # Without room for its content, the file itself still says what is wanted.
            self._paused.touch(mode=0o600)
            self._paused.with_name("paused.tmp").unlink(missing_ok=True)

    def resume(self) -> bool:
        """Withdraw the wish. False: there was none. Raises OSError."""
        try:
            self._paused.unlink()
        except FileNotFoundError:
            return False
        return True

    def begin_run(self) -> int:
        """Note that a run begins. Returns how many runs before it ended without being asked to, within ten minutes."""
        values, now = _read(self._runs), time.time()
        ends = [at for at in _times(values) if now - CRASH_WINDOW_S < at <= now]
        if values.get("running"):
            ends.append(now)
        ends = ends[-16:]
        _write(self._runs, {"running": True, "ends": ends})
        return len(ends)

    def end_run(self) -> None:
        """The run ends as asked: earlier crashes are forgotten, so that a restart by a person tries again."""
        for file in (self._runs, self._standing):
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)

    def crashes(self) -> list[float]:
        """When earlier runs ended without being asked to (wall clock, seconds)."""
        return _times(_read(self._runs))

    def stand(self, mode: str, reason: str) -> None:
        """Write down how this process stands."""
        _write(self._standing, asdict(Standing(os.getpid(), mode, reason)))

    def forget_standing(self) -> None:
        """So that the next word is known to be new. Raises OSError."""
        self._standing.unlink(missing_ok=True)

    def standing(self) -> Standing | None:
        """How the agent stands that wrote it down last; it may have ended since."""
        values = _read(self._standing)
        try:
            return Standing(int(values["pid"]), str(values["mode"]), str(values["reason"]))
        except (KeyError, TypeError, ValueError):
            return None

    def holder(self) -> int | None:
        """Process id of the agent that runs with this folder; None: none does. 0: one does, and its id is not known.

        Raises:
            OSError: the lock cannot be looked at.
        """
        try:
            descriptor = os.open(self.path / "lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.pread(descriptor, 32, 0).strip()
            pid = int(text) if text.isdigit() else 0
            return pid if pid and _holds(pid, descriptor) else 0
        finally:
            os.close(descriptor)
        return None


def _holds(pid: int, descriptor: int) -> bool:
    """Whether a process has the file open: a signal must not reach one that merely got the number later."""
    own = os.fstat(descriptor)
    with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if os.path.samestat(entry.stat(), own):
                    return True
    return False


def _times(values: dict[str, Any]) -> list[float]:
    ends = values.get("ends")
    return [float(at) for at in ends if isinstance(at, (int, float))] if isinstance(ends, list) else []


def _write(path: Path, values: dict[str, Any]) -> None:
    """Replace a file whole, without waiting for the disk: who drains rings must not."""
    scratch = path.with_name(path.name + ".tmp")
    try:
        scratch.write_text(json.dumps(values))
        scratch.replace(path)
    except OSError as e:
        log.warning("a file of the state folder cannot be written", extra={"path": str(path), "reason": e.strerror})
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            values = json.loads(file.read(MAX_FILE))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
