"""Two agents with one identity, told apart by what they say of themselves: each counts the time since its own start.

A machine that was cloned together with its state folder, or a certificate that was copied, makes two agents look like one. Their
uptimes (monotonic, so no clock that is set matters) run beside each other, and an agent that was merely restarted never
comes back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

SLACK_S = 30.0
"""A report may wait for so long before it arrives."""

RETURNS = 3
"""The last word of an agent that was killed may be overtaken by its successor's first: that makes two."""

OVERLAP_S = 10.0
"""Agents of one host that are both heard for longer than this are two; a new state folder is heard of after the old one."""

FRESH_S = 60.0
"""How long it is said after it was last seen."""

MOST_LIVES = 8
CLONED = "two agents use copies of one state folder under this name: stop one of them and remove its state folder"
SHARED = "two agents send under this host's name: one runs twice on the host, or its certificate was copied to another one"


@dataclass(slots=True)
class _Life:
    """One run of an agent: uptime when it was last heard, and when that was."""

    boot_id: str
    uptime_s: float
    heard: float


@dataclass(slots=True)
class _Identity:
    lives: list[_Life] = field(default_factory=list)
    """The one heard last at the end."""
    first: float = 0.0
    last: float = 0.0
    returns: int = 0
    cloned: float = 0.0
    shared: float = 0.0


class Twins:
    """Listens to every heartbeat. ``now`` is monotonic time in seconds."""

    def __init__(self) -> None:
        self._hosts: dict[str, dict[str, _Identity]] = {}

    def hear(self, host: str, agent_id: str, boot_id: str, uptime_s: float, now: float) -> None:
        """One heartbeat of an open stream."""
        agents = self._hosts.setdefault(host, {})
        for name in [name for name, known in agents.items() if now - known.last > FRESH_S and name != agent_id]:
            del agents[name]
        agent = agents.setdefault(agent_id, _Identity())
        if now - agent.last > FRESH_S:
            agent.first, agent.returns = now, 0
        agent.last = now
        self._follow(agent, boot_id, uptime_s, now)
        for name, other in agents.items():
            if name != agent_id and min(agent.last, other.last) - max(agent.first, other.first) > OVERLAP_S:
                agent.shared = other.shared = now

    def problem(self, host: str, agent_id: str, now: float) -> str:
        """What an operator should know of this agent; empty when nothing."""
        agent = self._hosts.get(host, {}).get(agent_id)
        if agent is None:
            return ""
        if agent.cloned and now - agent.cloned < FRESH_S:
            return CLONED
        return SHARED if agent.shared and now - agent.shared < FRESH_S else ""

    def _follow(self, agent: _Identity, boot_id: str, uptime_s: float, now: float) -> None:
        for life in reversed(agent.lives):
            expected = life.uptime_s + (now - life.heard) + SLACK_S
            if life.boot_id == boot_id and life.uptime_s <= uptime_s <= expected:
                if life is not agent.lives[-1]:
                    agent.returns += 1
                    if agent.returns >= RETURNS:
                        agent.cloned = now
                    agent.lives.remove(life)
                    agent.lives.append(life)
                life.uptime_s, life.heard = uptime_s, now
                return
        agent.lives = [*agent.lives[1 - MOST_LIVES:], _Life(boot_id, uptime_s, now)]
