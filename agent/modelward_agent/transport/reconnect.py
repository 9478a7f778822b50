"""Keeps a stream to the collector: a fresh channel for every try, soon and with jitter, for as long as the agent runs."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from modelward_agent.transport.connection import Connection, Source, StreamBroken, StreamRefused
from modelward_agent.transport.target import Target, TargetError

log = logging.getLogger(__name__)

FIRST_DELAY_S = 0.2
MAX_DELAY_S = 3.0
"""With jitter and the time of one try: back within 5 s of the collector's return."""
REFUSED_DELAY_S = 30.0


class Reconnect:
    """Runs one :class:`Connection` after another. ``down(reason)`` is called when a stream ended or none was to be had."""

    def __init__(self, target: Target, source: Source, epoch: bytes, down: Callable[[str], None]) -> None:
        self._target = target
        self._source = source
        self._epoch = epoch
        self._down = down
        self._connection: Connection | None = None
        self._stopping = asyncio.Event()

    def wake(self) -> None:
        """There may be something to send."""
        if self._connection is not None:
            self._connection.wake()

    def beat(self) -> None:
        """The next heartbeat should not wait."""
        if self._connection is not None:
            self._connection.beat()

    def stop(self) -> None:
        """End the stream once all in flight is answered."""
        self._stopping.set()
        if self._connection is not None:
            self._connection.stop()

    async def run(self) -> None:
        delay = FIRST_DELAY_S
        problem = ""
        while not self._stopping.is_set():
            self._connection = connection = Connection(self._target, self._source, self._epoch)
            try:
                await connection.run()
                reason, longest = "", MAX_DELAY_S
            except StreamBroken as e:
                reason, longest = f"no stream to the collector at {self._target.address}: {e}", MAX_DELAY_S
            except StreamRefused as e:
                reason = f"the collector at {self._target.address} refuses this agent: {e}"
                longest, delay = REFUSED_DELAY_S, REFUSED_DELAY_S / 2
            except TargetError as e:
                reason, longest = str(e), MAX_DELAY_S
            self._connection = None
            if self._stopping.is_set():
                break
            if connection.was_open:
                delay = min(delay, FIRST_DELAY_S)
            if connection.was_open or reason != problem:
                log.warning("no stream to the collector", extra={"reason": reason})
            problem = reason
            self._down(reason)
            delay = min(delay * random.uniform(1.3, 2.2), longest)
            try:
                async with asyncio.timeout(delay * random.uniform(0.7, 1.0)):
                    await self._stopping.wait()
            except TimeoutError:
                pass
