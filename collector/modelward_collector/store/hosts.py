"""The last word of each agent, and its ledger: kept in memory, written to the tables every second when something changed."""

from __future__ import annotations

import logging
import random
import re
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modelward_proto.fields import EVENT_NAMES, HOPS
from modelward_proto.text import escape, is_inert
from modelward_proto.v1.store_pb2 import ReportRequest
from modelward_proto.v1.stream_pb2 import MODE_DEGRADED, MODE_PAUSED, MODE_WATCHING, Door

from modelward_collector.store.encode import timestamp
from modelward_collector.store.engine import insert_json, rows
from modelward_collector.store.held import EpochKey
from modelward_collector.store.names import OWN_EPOCH
from modelward_collector.store.twins import Twins

if TYPE_CHECKING:
    from chdb.state.sqlitelike import Connection

_log = logging.getLogger(__name__)

OURS = frozenset({"received", "quarantined", "stored"})
"""Hops that only the collector counts; an agent's word on them is ignored."""

MOST_AGENTS = 50_000
MOST_OF_A_HOST = 256
"""Ids under which agents of one host may be known: each new state folder is one, and a hostile host could make them up
until there is no room for others. Beyond it, the one that was silent longest is forgotten."""

SLICE = 5_000

AGAIN_S = 86_400.0
"""Counts of an agent that reports are written again this often, changed or not: a row of the ledger expires, and a loss that
does not grow would be forgotten while the sums that it explains go on."""

MOST_OTHER_KINDS = 32
"""Names of kinds that this version does not know and still keeps, for each agent: a newer agent may have some."""

NOTHING: Mapping[str, int] = {}

_KINDS = frozenset(EVENT_NAMES.values()) | {"all"}

_MODES: Mapping[int, str] = {MODE_WATCHING: "watching", MODE_PAUSED: "paused", MODE_DEGRADED: "degraded"}

MOST_LABELS = 16
_LABEL = re.compile(r"[a-z][a-z0-9_]{0,31}=[^\x00-\x1f\x7f]{0,63}")


@dataclass(slots=True)
class _Agent:
    row: dict[str, Any]
    cells: dict[tuple[str, str, str], int] = field(default_factory=dict)
    """(epoch, hop, kind) to count."""
    changed: set[tuple[str, str, str]] = field(default_factory=set)
    dirty: bool = False
    others: set[str] = field(default_factory=set)
    again_at: float = field(default_factory=lambda: time.monotonic() + random.uniform(0, AGAIN_S))
    """Not for all agents at once."""


class Hosts:
    """State of all agents. Belongs to the event loop; only :meth:`load` and the insert of :meth:`flush` use a connection."""

    def __init__(self) -> None:
        self._agents: dict[tuple[str, str], _Agent] = {}
        self._of_host: Counter[str] = Counter()
        self.relabelled = 0
        """How often labels of a host changed: the dictionary of labels is loaded again when this moves."""
        self._latest = ""
        self._twins = Twins()

    def _now(self) -> str:
        """The version of a row, of which the latest counts. Never before an earlier one: a clock that was set back would
        leave every host as it was until the clock has caught up."""
        self._latest = max(self._latest, timestamp(time.time_ns())[:23])
        return self._latest

    def load(self, connection: Connection) -> None:
        """Read what earlier runs knew. No stream is open when the store starts with its collector."""
        for line in rows(connection, f"""SELECT {', '.join(_COLUMNS)} FROM modelward.hosts_raw FINAL
                ORDER BY last_seen DESC LIMIT {MOST_OF_A_HOST} BY host_name LIMIT {MOST_AGENTS}"""):
            row = dict(zip(_COLUMNS, line, strict=True))
            self._agents[row["host_name"], row["agent_id"]] = _Agent(row)
            self._of_host[row["host_name"]] += 1
        [[updated, counted]] = rows(connection, """SELECT toString((SELECT max(updated) FROM modelward.hosts_raw)),
                toString((SELECT max(at) FROM modelward.ledger_raw))""")
        self._latest = max(updated, counted)

    def take(self, request: ReportRequest) -> None:
        """Take one report."""
        agent = self._agent(request.host, request.agent_id.hex())
        if agent is None:
            return
        row = agent.row
        agent.dirty = True
        row["last_seen"], row["updated"] = timestamp(time.time_ns())[:23], self._now()
        row["epoch"] = request.epoch.hex()
        row["connected"] = not request.closed
        if request.HasField("hello"):
            hello = request.hello
            row.update(agent_version=text(hello.agent_version), boot_id=text(hello.boot_id),
                       kernel_release=text(hello.kernel_release), doors=[_door(d) for d in hello.doors[:64]])
            labels = labels_of(hello.labels)
            self.relabelled += labels != row["labels"]
            row["labels"] = labels
        if request.HasField("heartbeat"):
            beat = request.heartbeat
            row.update(
                uptime_s=beat.uptime_ns / 1e9, spool_bytes=beat.spool_bytes, spool_limit_bytes=beat.spool_limit_bytes,
                tracked_processes=beat.tracked_processes, oldest_unacked_age_s=beat.oldest_unacked_age_ns / 1e9,
                problems=[text(p, 500) for p in beat.problems[:50]] + self._twins_of(request),
                mode=_MODES.get(beat.mode, "unknown"), mode_reason=text(beat.mode_reason, 500),
            )
            if beat.doors:
                row["doors"] = [_door(d) for d in beat.doors[:64]]
            for cell in beat.ledger[:1000]:
                if cell.hop not in OURS:
                    _set(agent, row["epoch"], cell.hop, cell.kind, cell.count)
            if time.monotonic() >= agent.again_at:
                agent.again_at = time.monotonic() + AGAIN_S
                agent.changed.update(cell for cell in agent.cells if cell[0] == row["epoch"])

    def _twins_of(self, request: ReportRequest) -> list[str]:
        """What is noticed here of an agent, beside what it says itself. A stream that closes repeats its last word."""
        host, agent_id, now = request.host, request.agent_id.hex(), time.monotonic()
        if not request.closed:
            self._twins.hear(host, agent_id, request.hello.boot_id, request.heartbeat.uptime_ns / 1e9, now)
        problem = self._twins.problem(host, agent_id, now)
        return [problem] if problem else []

    def totals(self, key: EpochKey, stored: dict[str, int], quarantined: dict[str, int],
               pending: Mapping[str, int] = NOTHING) -> None:
        """Take the store's own counts of an epoch, and the receiver's of what is under way."""
        agent = self._agent(key.host, key.agent_id)
        if agent is None or bytes.fromhex(key.epoch) == OWN_EPOCH:
            return
        for kind in {*stored, *quarantined, *pending}:
            counts = {"stored": stored.get(kind, 0), "quarantined": quarantined.get(kind, 0)}
            counts["received"] = sum(counts.values()) + pending.get(kind, 0)
            for hop, count in counts.items():
                _set(agent, key.epoch, hop, kind, count)

    def changes(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Rows for ``hosts_raw`` and ``ledger_raw`` that changed since the last call."""
        hosts: list[dict[str, Any]] = []
        ledger: list[dict[str, Any]] = []
        now = self._now()
        for (host, agent_id), agent in self._agents.items():
            if agent.dirty:
                hosts.append(dict(agent.row))
                agent.dirty = False
            for epoch, hop, kind in agent.changed:
                ledger.append({"host_name": host, "agent_id": agent_id, "epoch": epoch, "hop": hop, "kind": kind,
                               "count": agent.cells[epoch, hop, kind], "at": now})
            agent.changed.clear()
        return hosts, ledger

    def unwritten(self, hosts: list[dict[str, Any]], ledger: list[dict[str, Any]]) -> None:
        """What :meth:`changes` gave could not be written: the next call gives it again, as it is by then."""
        for row in hosts:
            if (agent := self._agents.get((row["host_name"], row["agent_id"]))) is not None:
                agent.dirty = True
        for cell in ledger:
            if (agent := self._agents.get((cell["host_name"], cell["agent_id"]))) is not None:
                key = (cell["epoch"], cell["hop"], cell["kind"])
                if key in agent.cells:
                    agent.changed.add(key)

    def _agent(self, host: str, agent_id: str) -> _Agent | None:
        known = self._agents.get((host, agent_id))
        if known is None:
            if self._of_host[host] >= MOST_OF_A_HOST:
                self._forget_one(host)
            if len(self._agents) >= MOST_AGENTS:
                _log.error("too many agents: the word of another one is not kept", extra={"host": host})
                return None
            now = timestamp(time.time_ns())[:23]
            known = _Agent(_EMPTY | {"host_name": host, "agent_id": agent_id, "first_seen": now, "last_seen": now,
                                     "updated": now})
            self._agents[host, agent_id] = known
            self._of_host[host] += 1
        return known

    def _forget_one(self, host: str) -> None:
        """What was written of it stays in the tables."""
        oldest = min((key for key in self._agents if key[0] == host), key=lambda key: str(self._agents[key].row["last_seen"]))
        del self._agents[oldest]
        self._of_host[host] -= 1


def flush(connection: Connection, hosts: list[dict[str, Any]], ledger: list[dict[str, Any]]) -> None:
    """Write what :meth:`Hosts.changes` gave."""
    for table, lines in (("hosts_raw", hosts), ("ledger_raw", ledger)):
        for start in range(0, len(lines), SLICE):
            insert_json(connection, table, lines[start : start + SLICE], secrets.token_hex(8))


def text(value: str, limit: int = 200) -> str:
    """A text of an agent's message, made inert and bounded."""
    cut = value[:limit]
    return cut if is_inert(cut) else escape(cut.encode("utf-8", "replace"))


def labels_of(given: Iterable[str]) -> list[str]:
    """Labels of a host, NAME=VALUE, sorted by name: the first of each name. What is none is left out."""
    found: dict[str, str] = {}
    for label in given:
        if len(found) < MOST_LABELS and _LABEL.fullmatch(label) and is_inert(label):
            found.setdefault(label.partition("=")[0], label)
    return [found[name] for name in sorted(found)]


def _set(agent: _Agent, epoch: str, hop: str, kind: str, count: int) -> None:
    if hop not in HOPS:
        return
    if kind not in _KINDS and kind not in agent.others:
        if len(agent.others) >= MOST_OTHER_KINDS or len(kind) > 40 or not is_inert(kind):
            return
        agent.others.add(kind)
    cell = (epoch, hop, kind)
    if agent.cells.get(cell) != count:
        if len(agent.cells) > 4000:
            agent.cells = {c: n for c, n in agent.cells.items() if c[0] == epoch or c in agent.changed}
        agent.cells[cell] = count
        agent.changed.add(cell)


def _door(door: Door) -> dict[str, Any]:
    return {"effect": text(door.effect, 40), "door": text(door.door, 120), "reason": text(door.reason, 300),
            "proven": door.proven, "loss": text(door.loss, 300)}


_EMPTY: dict[str, Any] = {
    "host_name": "", "agent_id": "", "updated": "", "epoch": "", "agent_version": "", "boot_id": "", "kernel_release": "",
    "labels": [], "first_seen": "", "last_seen": "", "connected": False, "mode": "watching", "mode_reason": "",
    "uptime_s": 0.0, "spool_bytes": 0, "spool_limit_bytes": 0,
    "tracked_processes": 0, "oldest_unacked_age_s": 0.0, "problems": [], "doors": [],
}
_COLUMNS = tuple(_EMPTY)
