"""Commands to agents: the web process asks a receiver, which passes them on to the agent's stream and keeps what came back."""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from modelward_proto.text import escape, is_inert
from modelward_proto.v1.stream_pb2 import CollectorMessage, Command, CommandResult, TestAlert

if TYPE_CHECKING:
    from modelward_collector.ingest.stream import Streams

MOST_REMEMBERED = 1000
MOST_OF_A_BEAT = 64
MOST_ERROR = 500
_ID = re.compile(r"[0-9a-zA-Z-]{1,64}", re.ASCII)


class Commands:
    """What was sent to which host, and each agent's answer. The oldest are forgotten."""

    def __init__(self) -> None:
        self._answers: OrderedDict[tuple[str, str], dict[str, dict[str, Any]]] = OrderedDict()

    def sent(self, host: str, id: str) -> None:
        """A command is on its way: from now on its answers are kept."""
        self._answers[host, id] = {}
        while len(self._answers) > MOST_REMEMBERED:
            self._answers.popitem(last=False)

    def take(self, host: str, agent: str, results: Iterable[CommandResult]) -> None:
        """Keep an agent's answers. One to a command that its host was not sent is nobody's."""
        for result in list(results)[:MOST_OF_A_BEAT]:
            answers = self._answers.get((host, result.id))
            if answers is not None and agent not in answers and len(answers) < MOST_OF_A_BEAT:
                answers[agent] = {"at": time.time(), "error": _inert(result.error)}

    def answers(self, host: str, id: str) -> list[dict[str, Any]]:
        """``agent``, ``at`` (seconds since 1970) and ``error`` (empty: done) of each agent that answered."""
        return [{"agent": agent, **answer} for agent, answer in self._answers.get((host, id), {}).items()]


class Control:
    """What a receiver does for the web process, for :func:`modelward_collector.local_socket.serve`."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    async def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """``{"test_alert": ID, "host": NAME}`` sends one and says to which agents; ``{"answers": ID, "host": NAME}`` says what
        came back.
        """
        host, streams = str(question.get("host", "")), self._streams
        if (id := question.get("test_alert")) is not None and _ID.fullmatch(str(id)):
            command = CollectorMessage(command=Command(id=str(id), test_alert=TestAlert()))
            agents = [(agent, stream) for (name, agent), stream in streams.open.items() if name == host and stream.welcomed]
            if agents:
                streams.commands.sent(host, str(id))
            for _, stream in agents:
                stream.send(command)
            return {"sent": [{"agent": agent.hex(), "agent_version": _inert(stream.version), "at": time.time()}
                             for agent, stream in agents]}
        if (id := question.get("answers")) is not None:
            return {"answers": streams.commands.answers(host, str(id))}
        return {}


def _inert(text: str) -> str:
    cut = text[:MOST_ERROR]
    return cut if is_inert(cut) else escape(cut.encode("utf-8", "replace"))
