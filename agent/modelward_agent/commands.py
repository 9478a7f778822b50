"""Commands that come down the stream: who does them, how often they may come, and what became of them.

The collector is trusted, but one that was taken over must not make this agent busy: few at a time, spaced out, and only what is
listed here.
"""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from collections.abc import Callable

from modelward_proto.text import escape
from modelward_proto.v1 import stream_pb2 as pb

log = logging.getLogger(__name__)

EVERY_S = 5.0
MAX_WAITING = 10
ANSWER_S = 20.0
MAX_RESULTS = 64
MAX_ERROR = 500
_ID = re.compile(r"[0-9a-zA-Z-]{1,64}")


class Commands:
    """Commands of one agent. ``provoke(id)`` asks the drainer for a canary, ``changed()`` says that a result is there."""

    def __init__(
        self, provoke: Callable[[str], None], changed: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._provoke = provoke
        self._changed = changed
        self._clock = clock
        self._waiting: deque[str] = deque()
        self._asked: dict[str, float] = {}
        self._next_at = 0.0
        self._results: deque[pb.CommandResult] = deque(maxlen=MAX_RESULTS)
        self._told: list[pb.CommandResult] = []

    def take(self, command: pb.Command) -> None:
        """A command came."""
        if not _ID.fullmatch(command.id):
            log.warning("a command without a usable id is ignored")
            return
        what = command.WhichOneof("what")
        if what != "test_alert":
            self._done(command.id, "this agent does not know this command: upgrade it")
        elif command.id in self._waiting or command.id in self._asked:
            return
        elif len(self._waiting) >= MAX_WAITING:
            self._done(command.id, f"{MAX_WAITING} commands wait already: try again later")
        else:
            self._waiting.append(command.id)
            self.poll()

    def poll(self) -> None:
        """Begin what is due, and give up what was not answered."""
        now = self._clock()
        for id in [id for id, at in self._asked.items() if now - at > ANSWER_S]:
            self.done(id, f"the drainer did not answer within {ANSWER_S:.0f} s")
        if self._waiting and now >= self._next_at:
            id = self._waiting.popleft()
            self._asked[id] = now
            self._next_at = now + EVERY_S
            log.info("a test alert was asked for", extra={"command": id})
            self._provoke(id)

    def done(self, id: str, error: str) -> None:
        """What the drainer says of a command. Empty ``error``: it did it."""
        if self._asked.pop(id, None) is not None:
            self._done(id, error)

    def results(self) -> list[pb.CommandResult]:
        """For a heartbeat. What the one before carried is gone from here on, unless :meth:`untold` said otherwise."""
        self._told = list(self._results)
        self._results.clear()
        return self._told

    def untold(self) -> None:
        """The stream broke: perhaps nobody read the last results."""
        self._results.extendleft(reversed(self._told))
        self._told = []

    def _done(self, id: str, error: str) -> None:
        text = escape(error.encode("utf-8", "surrogateescape"))[:MAX_ERROR]
        self._results.append(pb.CommandResult(id=id, error=text))
        self._changed()
