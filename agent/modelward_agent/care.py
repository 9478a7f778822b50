"""``modelward-agent pause | resume | uninstall``: what a person on the host asks of the agent, without its collector."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from modelward_agent import exit_codes
from modelward_agent.exit_codes import fail
from modelward_agent.sensor import mounts, pins
from modelward_agent.sensor.errors import SensorError
from modelward_agent.settings import AgentSettings
from modelward_agent.state_folder import DEGRADED, MAX_REASON, PAUSED, WATCHING, Pause, Standing, StateFolder
from modelward_agent.supervise import StateError, StateLock
from modelward_agent.watching import unpin

ANSWER_S = 10.0
"""How long an agent may take to detach its hooks."""
ATTACH_S = 30.0
"""The kernel verifies each program first."""
STOP_S = 30.0
"""It delivers what it holds first, for up to ten seconds."""
_OURS = ("agent.id", "crashes", "lock", "mode", "paused", "spool")
"""What the agent makes in its state folder. Whatever else is there is not ours to remove."""


class Care:
    """The commands, for one state folder. Each prints what is true now and returns the exit code."""

    def __init__(self, state: Path, pinned: Path | None = None) -> None:
        self._folder = StateFolder(state)
        # So that a command that is shown is the one to type.
        self._where = "" if str(state) == AgentSettings.state else f" --state {shlex.quote(str(state))}"
        self._pinned = pinned or pins.folder_of(state)

    def pause(self, reason: str) -> int:
        """Detach every hook and leave them off."""
        try:
            # Refuses a folder that others may write to, or that is none; the agent that runs there is looked for below.
            self._folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.pause(Pause(reason.strip()[:MAX_REASON], _who(), time.time()))
            pid = self._folder.holder()
        except OSError as e:
            return fail(exit_codes.STATE, f"cannot use the state folder {self._folder.path}: {e.strerror}; "
                                          "to detach the hooks all the same, stop the agent")
        if pid is None:
            print(f"Paused. No agent runs with {self._folder.path}; one that starts attaches no hook until "
                  f"'modelward-agent resume{self._where}'.")
            return self._without_pins()
        standing = self._wait(lambda now: now.mode == PAUSED, ANSWER_S)
        if standing is None:
            return fail(exit_codes.NOT_DONE, f"the agent (process {pid or 'unknown'}) did not detach its hooks within "
                                             f"{ANSWER_S:.0f} s. It will when it looks at {self._folder.path}/paused; to be "
                                             "sure, stop it and run 'modelward-agent pause' again")
        print(f"Paused: the agent (process {standing.pid}) holds no hook and tells its collector so. "
              f"'modelward-agent resume{self._where}' ends it.")
        return self._nothing_pinned()

    def resume(self) -> int:
        """Attach the hooks again: at once where an agent runs, else when one starts."""
        try:
            pid = self._folder.holder()
            was_paused = self._folder.resume()
        except OSError as e:
            return fail(exit_codes.STATE, f"cannot use the state folder {self._folder.path}: {e.strerror}")
        if pid is None:
            print(f"{'No longer paused' if was_paused else 'It was not paused'}. No agent runs with {self._folder.path}; "
                  "start it to watch this host.")
            return exit_codes.OK
        before = self._folder.standing()
        if not was_paused and before is not None and before.mode == WATCHING:
            print(f"It was not paused: the agent (process {before.pid}) watches this host.")
            return exit_codes.OK
        # The old word must not be taken for the answer.
        self._folder.forget_standing()
        if pid:
            os.kill(pid, signal.SIGHUP)
        standing = self._wait(lambda now: now.mode in (WATCHING, DEGRADED), ATTACH_S)
        if standing is None:
            return fail(exit_codes.NOT_DONE, f"the agent (process {pid or 'unknown'}) did not answer within {ATTACH_S:.0f} s")
        if standing.mode == DEGRADED:
            return fail(exit_codes.NOT_DONE, f"the agent (process {standing.pid}) runs without hooks: {standing.reason}")
        print(f"The agent (process {standing.pid}) watches this host again.")
        return exit_codes.OK

    def uninstall(self, *, stop: bool, keep_state: bool) -> int:
        """Remove pins, mounts that the agent made, and its state folder."""
        state = self._folder.path
        try:
            pid = self._folder.holder()
            if pid is not None and not stop:
                return fail(exit_codes.STATE, f"an agent (process {pid or 'unknown'}) runs with {state}: stop it, or add --stop")
            if pid is not None and not self._stopped(pid):
                return fail(exit_codes.NOT_DONE, f"the agent (process {pid or 'unknown'}) did not stop within {STOP_S:.0f} s")
            # Held, so that no agent starts here while its files go.
            lock = StateLock(state) if state.exists() else None
        except StateError as e:
            return fail(exit_codes.STATE, str(e))
        except OSError as e:
            return fail(exit_codes.STATE, f"cannot use the state folder {state}: {e.strerror}")
        code = self._without_pins()
        for mount in mounts.unmount():
            print(f"unmounted {mount}")
        if lock is not None:
            for problem in [] if keep_state else _remove_state(state):
                print(f"left: {problem}")
            lock.release()
        if code == exit_codes.OK:
            print("Nothing of the agent is left in the kernel" + (f"; {state} is kept." if state.exists() else ", nor on disk."))
        return code

    def _wait(self, wanted: Callable[[Standing], bool], patience_s: float) -> Standing | None:
        """How the agent stands once it is as wanted; None: not in time, or it ended meanwhile."""
        until = time.monotonic() + patience_s
        while time.monotonic() < until:
            standing = self._folder.standing()
            if standing is not None and wanted(standing) and self._folder.holder() in (standing.pid, 0):
                return standing
            if self._folder.holder() is None:
                return None
            time.sleep(0.05)
        return None

    def _stopped(self, pid: int) -> bool:
        if not pid:
            return False
        os.kill(pid, signal.SIGTERM)
        until = time.monotonic() + STOP_S
        while self._folder.holder() is not None:
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        return True

    def _without_pins(self) -> int:
        """With no agent running, what is pinned is all that is attached."""
        try:
            if removed := unpin(self._pinned):
                hooks = sum(1 for path in removed if Path(path).name.startswith("link_"))
                print(f"detached {hooks} hooks, removed {self._pinned}")
        except SensorError as e:
            return fail(exit_codes.NOT_DONE, f"the hooks may still be attached: {e}")
        return self._nothing_pinned()

    def _nothing_pinned(self) -> int:
        if pins.present(self._pinned):
            return fail(exit_codes.NOT_DONE, f"something is still pinned in {self._pinned}: the hooks may still be attached")
        return exit_codes.OK


def _remove_state(state: Path) -> list[str]:
    """Remove what the agent made there. Returns what is left, and why."""
    left: list[str] = []
    for name in _OURS:
        path = state / name
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        except FileNotFoundError:
            continue
        except OSError as e:
            left.append(f"{path}: {e.strerror}")
        else:
            print(f"removed {path}")
    try:
        state.rmdir()
        print(f"removed {state}")
    except OSError as e:
        others = sorted(entry.name for entry in state.iterdir()) if state.is_dir() else []
        left.append(f"{state}: {'it holds ' + ', '.join(others[:5]) if others else e.strerror}")
    return left


def _who() -> str:
    """The person behind sudo, else the user."""
    uid = os.environ.get("SUDO_UID", "")
    number = int(uid) if uid.isascii() and uid.isdigit() else os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except (KeyError, OverflowError):
        return f"user {number}"
