"""Tags against truth: what is right by event and role, and how late each transition is seen."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from tests.phases.stored import Mark, Stored

WINDOW_NS = 100_000_000
"""DESIGN.md lets 100 ms of quiet decide that a load has ended: so long an earlier phase may stand."""

FOUND_NS = 1_000_000_000
"""A late agent has so long, from its first event on, to find out what goes on."""


@dataclass
class Tally:
    """Events of one role."""

    events: int = 0
    phase: int = 0
    model: int = 0
    origin: int = 0

    def add(self, other: Tally) -> None:
        self.events += other.events
        self.phase += other.phase
        self.model += other.model
        self.origin += other.origin


@dataclass
class Score:
    """One server."""

    name: str
    roles: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    late_ms: dict[str, float] = field(default_factory=dict)
    """Worst lateness by transition, such as ``warmup to serve``."""
    late_requests: int = 0
    """Events of request threads tagged ``load`` later than 100 ms after the first answer."""
    unstored: int = 0
    untracked: int = 0
    """Marks made before the process was tracked, where that is to be expected."""
    wrong: list[str] = field(default_factory=list)
    """Each wrong tag, missed check and false alarm in words."""
    failed: list[str] = field(default_factory=list)
    """Those of ``wrong`` that are not about tags."""
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def all(self) -> Tally:
        total = Tally()
        for tally in self.roles.values():
            total.add(tally)
        return total


def score(stored: Stored) -> Score:
    """Judge every mark and every open of a model's file."""
    result = Score(stored.server.name)
    first_ns = min((row["ns"] for row in stored.opened.values()), default=0)
    by_process: dict[int, list[tuple[Mark, dict[str, Any]]]] = defaultdict(list)
    for name, mark in stored.marks.items():
        row = stored.opened.get(name)
        if row is not None:
            by_process[mark.pid].append((mark, row))
        elif _before_tracking(stored, mark, first_ns):
            result.untracked += 1
        else:
            result.unstored += 1
            result.roles[mark.role].events += 1
            result.wrong.append(f"not stored: {name}")
    for pairs in by_process.values():
        pairs.sort(key=lambda pair: pair[1]["ns"])
        _judge_process(stored, pairs, result)
    _judge_artifacts(stored, result)
    for words in (*stored.server.check(stored), *_judge_detections(stored)):
        result.failed.append(words)
        result.wrong.append(words)
    if stored.agent_started_ns:
        result.notes.append(_tagged_since(stored))
    if not stored.opened:
        result.failed.append("no mark was stored")
    return result


def _before_tracking(stored: Stored, mark: Mark, first_ns: int) -> bool:
    if stored.agent_started_ns:
        return mark.pid not in {row["pid"] for row in stored.opened.values()} or mark.made_ns < min(
            row["ns"] for row in stored.opened.values() if row["pid"] == mark.pid)
    return not stored.server.listed and (not first_ns or mark.made_ns < first_ns)


def _judge_process(stored: Stored, pairs: list[tuple[Mark, dict[str, Any]]], result: Score) -> None:
    began_ns = min(row["ns"] for row in stored.rows)
    first_answer = next((row["ns"] for mark, row in pairs if mark.phases == {"serve"}), None)
    for at, (mark, row) in enumerate(pairs):
        tally = result.roles[mark.role]
        tally.events += 1
        late, transition, earlier = _lateness(pairs, at)
        in_window = late is not None and late <= WINDOW_NS
        # A tag is whole: the model of a load goes with its phase.
        models = mark.models | earlier if in_window else mark.models
        if stored.agent_started_ns and stored.server.traceless:
            models = models | {"-"}
        found = row["phase"] == "unknown" and row["ns"] - stored.agent_started_ns > 0 and row["ns"] - began_ns < FOUND_NS
        right = row["phase"] in mark.phases or in_window or (stored.agent_started_ns > 0 and found)
        if late is not None:
            result.late_ms[transition] = max(result.late_ms.get(transition, 0.0), late / 1e6)
        elif at and transition:
            result.late_ms.setdefault(transition, 0.0)
        tally.phase += right
        model = _model_of(stored, row)
        tally.model += model in models
        origin = _origin_of(stored, row)
        origin_right = origin in mark.origins or origin.rstrip("~") in mark.origins
        tally.origin += origin_right
        if not (right and model in models and origin_right):
            said = " ".join([f"{row['phase']} ({row['scope']})" + ("" if right else " WRONG"),
                             model + ("" if model in models else " WRONG"), origin + ("" if origin_right else " WRONG")])
            result.wrong.append(f"{mark.name} at {row['ns'] / 1e9 % 1000:.3f}, thread {row['tid']}: stored {said}")
        if (mark.role == "request" and row["phase"] == "load" and "load" not in mark.phases
                and first_answer is not None and row["ns"] - first_answer > WINDOW_NS):
            result.late_requests += 1


def _lateness(pairs: list[tuple[Mark, dict[str, Any]]], at: int) -> tuple[int | None, str, frozenset[str]]:
    """How long after the truth had changed a mark still has an earlier phase's tag; None when it has not. The transition, and the
    models that went with the earlier phase."""
    mark, row = pairs[at]
    before = [pair for pair in pairs[:at] if pair[1]["tid"] == row["tid"] or _bystander(pair[0])]
    if not before:
        return None, "", frozenset()
    if row["phase"] in mark.phases:
        last = before[-1][0]
        return None, f"{last.words} to {mark.words}" if not last.phases & mark.phases else "", frozenset()
    for back in range(len(before) - 1, -1, -1):
        if row["phase"] in before[back][0].phases:
            changed = before[back + 1][1]["ns"] if back + 1 < len(before) else row["ns"]
            return row["ns"] - changed, f"{row['phase']} to {mark.words}", before[back][0].models
    return None, "", frozenset()


def _bystander(mark: Mark) -> bool:
    return mark.phases != {"load"}


def _model_of(stored: Stored, row: dict[str, Any]) -> str:
    return stored.label_of(row["model_id"], row["model_digest"]) if row["instance"] else "-"


def _origin_of(stored: Stored, row: dict[str, Any]) -> str:
    if row["origin_phase"] == "none":
        return "-"
    return stored.label_of(row["origin_model"]) + ("~" if row["origin_scope"] == "tail" else "")


def _tagged_since(stored: Stored) -> str:
    """How soon after the agent's start each process that marks all the time has a tag."""
    first: dict[int, int] = {}
    for row in sorted(stored.opened.values(), key=lambda row: row["ns"]):
        first.setdefault(row["pid"], row["ns"])
    never = {mark.pid for mark in stored.marks.values() if mark.made_ns > stored.agent_started_ns} - set(first)
    began = min((row["ns"] for row in stored.rows), default=0)
    latest = max(first.values(), default=0)
    after = (latest - stored.agent_started_ns) / 1e9
    return (f"{len(first)} processes tagged, {len(never)} never; the last one {after:.2f} s after the agent was started, "
            f"{(latest - began) / 1e9:.2f} s after its first event of the workload")


def _judge_artifacts(stored: Stored, result: Score) -> None:
    """Whoever of the server opens a model's file to read it loads that model."""
    for row in stored.rows:
        label = stored.label_of_file(row["path"]) if row["event_name"] == "file_open" and row["access"] == "read" else None
        if label is None:
            continue
        tally = result.roles["artifact"]
        tally.events += 1
        model = _model_of(stored, row)
        tally.phase += row["phase"] == "load"
        tally.model += model == label
        tally.origin += 1
        if row["phase"] != "load" or model != label:
            result.wrong.append(f"open of {row['path'].rpartition('/models/')[2]} by thread {row['tid']}: "
                                f"stored {row['phase']} ({row['scope']}) {model}")


def _judge_detections(stored: Stored) -> list[str]:
    found = {d.rule for d in stored.detections}
    expected = {rule for rules in stored.server.expects for rule in rules.split("|")}
    missing = [f"not detected: {rules}" for rules in stored.server.expects if not found & set(rules.split("|"))]
    return missing + [f"false alarm: {d.rule} in {d.phase}, [{d.chain}] {d.command} {d.file} {d.address}"
                      for d in stored.detections if d.rule not in expected]
