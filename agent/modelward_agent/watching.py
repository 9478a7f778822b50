"""Keeps the hooks as they ought to be: attached; off while an operator wants that; or refused, and tried again now and then."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from modelward_proto.notify import notify

from modelward_agent.no_sensor import NoSensor
from modelward_agent.sensor import pins
from modelward_agent.sensor.errors import SensorError
from modelward_agent.spool.batch import Layout
from modelward_agent.state_folder import DEGRADED, PAUSED, WATCHING, Pause, StateFolder

if TYPE_CHECKING:
    from modelward_agent.drainer import Source
    from modelward_agent.proving import Proof

log = logging.getLogger(__name__)

LOOK_S = 0.2
RETRY_S = 3600.0


class Holder(Protocol):
    """Who drains (:class:`modelward_agent.drainer.Drainer`)."""

    def replace_source(self, source: Source, mode: str, reason: str) -> None: ...


class Watch:
    """Owner of the sensor. :meth:`begin` says what to drain first, :meth:`look` is called again and again."""

    def __init__(
        self, folder: StateFolder, layout: Layout, open_sensor: Callable[[], Source], proof: Proof, *, crash_limit: int,
        pinned: Path,
    ) -> None:
        """``open_sensor`` raises SensorError when the kernel refuses, and pins in ``pinned``. ``crash_limit``: 0 for none."""
        self._folder = folder
        self._layout = layout
        self._open = open_sensor
        self._proof = proof
        self._crash_limit = crash_limit
        self._pinned = pinned
        self._look_at = 0.0
        self._retry_at = 0.0
        self._retry_now = False
        self.mode, self.reason = WATCHING, ""
        self.source: Source = NoSensor(layout, "the agent is starting")

    def begin(self, crashes: int) -> Source:
        """Attach the hooks, unless that was asked against, or the last runs all ended in a crash."""
        pause = self._folder.paused()
        if pause is not None:
            self._blind(PAUSED, pause.words())
        elif 0 < self._crash_limit <= crashes:
            self._blind(DEGRADED, f"it ended {crashes} times within ten minutes without being asked to; the hooks are tried "
                                  "again within an hour, or at once by 'modelward-agent resume'")
        else:
            self._try()
            return self.source
        self._unpin()
        self._tell()
        return self.source

    def words(self) -> str:
        """For a person, in one line."""
        return "watching" if self.mode == WATCHING else f"no hook is attached, {self._why()}"

    def hang_up(self) -> None:
        """Try refused hooks again at the next look: for a signal handler."""
        self._retry_now = True

    def look(self, holder: Holder) -> None:
        """Do what is due: cheap when nothing is."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_S
        pause = self._folder.paused()
        if pause is not None:
            if self.mode != PAUSED or self.reason != pause.words():
                self._pause(holder, pause)
        elif self.mode == PAUSED or (self.mode == DEGRADED and (self._retry_now or now >= self._retry_at)):
            self._try()
            holder.replace_source(self.source, self.mode, self.reason)
            self._look_at = time.monotonic() + LOOK_S
        elif self._retry_now:
            # Whoever asks wants an answer.
            self._tell()
        self._retry_now = False

    def end(self, *, keep_hooks: bool) -> None:
        """Give the sensor back: with its hooks left in the kernel for the next start, or with nothing left."""
        self._proof.stop()
        if keep_hooks:
            self.source.leave()
        else:
            self.source.close()

    def _pause(self, holder: Holder, pause: Pause) -> None:
        self._proof.stop()
        before = self.source
        self._blind(PAUSED, pause.words())
        # What the hooks saw so far is drained and spooled before they are gone.
        holder.replace_source(self.source, self.mode, self.reason)
        before.close()
        self._tell()

    def _try(self) -> None:
        """Open the sensor, or become degraded."""
        try:
            self.source = self._open()
        except (SensorError, OSError) as e:
            self._blind(DEGRADED, str(e).splitlines()[0] if str(e) else "the kernel refuses")
            self._unpin()
        else:
            self.mode, self.reason = WATCHING, ""
            self._proof.start()
            log.info("the hooks are attached")
        self._tell()

    def _unpin(self) -> None:
        """What an agent that was killed, or an older one, left attached."""
        try:
            unpin(self._pinned)
        except SensorError as e:
            log.warning("hooks of an earlier run may still be attached", extra={"reason": str(e)})

    def _blind(self, mode: str, reason: str) -> None:
        self.mode, self.reason = mode, reason
        self.source = NoSensor(self._layout, self._why())
        self._retry_at = time.monotonic() + RETRY_S
        log.warning("no hook is attached", extra={"mode": mode, "reason": reason})

    def _tell(self) -> None:
        """To the commands of this host, and to systemd."""
        self._folder.stand(self.mode, self.reason)
        notify(f"STATUS={self.words()}")

    def _why(self) -> str:
        return self.reason if self.mode == PAUSED else f"{self.mode}: {self.reason}"


def unpin(root: Path) -> list[str]:
    """Detach everything that is pinned there, unless an agent holds it. Returns what was removed.

    Raises:
        SensorError: an agent holds it, or it could not be removed.
    """
    if not root.is_dir():
        return []
    held = pins.PinFolder.open(root)
    try:
        return pins.remove(root)
    finally:
        held.close()
