"""Whether what is stored is what happened: by the provoking programs' own counts, and by the ledger of the whole host."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.faults.site import CANARY, Provoker, Site

_OWN = """SELECT event_name AS kind, sum(count) AS events, count() AS rows, uniqExact(file_path) AS paths FROM events
WHERE match(process_root_id, {{root:String}}) AND (event_name != 'file_open' OR startsWith(file_path, {{opens:String}}))
{also} GROUP BY event_name"""
_LEDGER = """SELECT kind, sumIf(count, hop = 'seen') AS seen,
sumIf(count, hop IN ('ring_dropped', 'evicted', 'quarantined')) AS lost,
sumIf(count, hop = 'missed') AS missed, sumIf(count, hop = 'stored') AS stored, sumIf(count, hop = 'merged') AS merged
FROM ledger GROUP BY kind"""
_ROWS = "SELECT event_name AS kind, sum(count) AS events FROM events_raw GROUP BY event_name"
# Rows of a batch are numbered from 0: these hold one twice, or miss one. To ask for distinct names of millions of rows takes more
# memory than a query may have.
_BROKEN = """SELECT count() AS batches, sum(n) AS rows FROM (
    SELECT count() AS n FROM events_raw GROUP BY agent_id, epoch, batch
    HAVING n != max(row) + 1 OR sum(row) != n * (n - 1) / 2)"""
_TWICE = """SELECT count() AS rows, uniqExact(detection_id) AS ids, countIf(rule_name = {rule:String}) AS canaries
FROM detections_raw"""
NOT_SEEN = ("loss", "model_identity", "agent_silent", "agent_twice", "canary", "all")
"""Kinds that no hook saw, so that the ledger's law is not about them."""


@dataclass
class Account:
    """What was found at one moment. ``wrong``: one sentence for each thing that does not add up; empty when all does."""

    provoked: int = 0
    stored: int = 0
    merged: int = 0
    lost: int = 0
    """By the ledger, over all kinds."""
    others: int = 0
    """Events of programs that are not ours: other servers of this host."""
    wrong: list[str] = field(default_factory=list)
    laws: dict[str, str] = field(default_factory=dict)
    """By kind, how the host's ledger does not add up at this moment. While others go on, a kind adds up only now and then."""
    kinds: frozenset[str] = frozenset()


def account(site: Site, provokers: Sequence[Provoker], *, may_lose: Iterable[str] = (), of_all_time: bool = True,
            last_word: bool = True) -> Account:
    """Compare once. ``may_lose``: kinds of which events may be missing if the ledger names each of them; ``of_all_time``: the
    store holds all since the agent began, so that the ledger must add up; ``last_word``: no agent ended for good between two
    heartbeats, so that what is stored is not more than was said to be seen."""
    found, lossy = Account(), frozenset(may_lose)
    ledger = {row["kind"]: row for row in site.select(_LEDGER)}
    rows = {row["kind"]: row for row in site.select(_ROWS)}
    own: dict[str, int] = {}
    expected: dict[str, int] = {}
    for provoker in provokers:
        mine = {row["kind"]: row for row in of(site, provoker)}
        for kind, count in provoker.expected().items():
            stored = mine[kind]["events"] if kind in mine else 0
            expected[kind] = expected.get(kind, 0) + count
            own[kind] = own.get(kind, 0) + stored
            if stored > count or (stored < count and kind not in lossy):
                found.wrong.append(f"{kind}: {count} were provoked, {stored} are stored")
        paths = provoker.done["distinct"] + provoker.done["canaries"] + bool(provoker.done["same"])
        if "file_open" not in lossy and "file_open" in mine and mine["file_open"]["paths"] != paths:
            found.wrong.append(f"{paths} paths were opened, {mine['file_open']['paths']} are stored")
    found.provoked, found.stored = sum(expected.values()), sum(own.values())
    broken = site.one(_BROKEN)
    if broken["batches"]:
        found.wrong.append(f"of {broken['batches']} batches ({broken['rows']} rows) rows are stored twice or missing")
    for kind, cell in ledger.items():
        if kind in NOT_SEEN:
            # A loss event that is lost itself is told again; what cannot be told apart is of any kind.
            found.lost += cell["lost"] if kind == "all" else 0
            continue
        stored = rows[kind]["events"] if kind in rows else 0
        found.merged += cell["merged"]
        found.lost += cell["lost"]
        found.others += stored - own.get(kind, 0)
        unsaid = stored + cell["lost"] - cell["seen"]
        if stored != cell["stored"] or unsaid < 0 or (unsaid and last_word):
            found.laws[kind] = (f"{kind}: {cell['seen']} were seen, {stored} are stored (the ledger says {cell['stored']}) "
                                f"and {cell['lost']} lost")
        # What others did and lost is in both sides; what we did is known.
        missing = expected.get(kind, 0) - own.get(kind, 0)
        if missing > cell["lost"] + cell["missed"]:
            found.wrong.append(f"{kind}: {missing} of ours are not stored, and the ledger names only {cell['lost']} as lost")
    unnamed = [kind for kind in expected if expected[kind] and kind not in ledger]
    found.wrong += [f"{kind}: nothing in the ledger" for kind in unnamed]
    twice = site.one(_TWICE, rule=CANARY)
    if twice["rows"] != twice["ids"]:
        found.wrong.append(f"{twice['rows'] - twice['ids']} detections are stored twice")
    canaries = site.canaries
    if twice["canaries"] > canaries or (twice["canaries"] < canaries and not lossy):
        found.wrong.append(f"{canaries} canaries were opened, {twice['canaries']} were detected")
    if not of_all_time:
        found.laws.clear()
        return found
    found.wrong += unacknowledged(site)
    found.kinds = frozenset(ledger) - frozenset(NOT_SEEN)
    return found


def of(site: Site, provoker: Provoker, also: str = "") -> list[dict[str, object]]:
    """Stored events of a program and its children, by kind; of the opens, only those that it was asked for."""
    return site.select(_OWN.format(also=also), root=f"^[0-9a-f]+-{provoker.pid}-", opens=provoker.opens)


def unacknowledged(site: Site) -> list[str]:
    """What an agent was told is stored, by its own state, and is not."""
    path = site.state / "spool" / "state.json"
    try:
        told = {kind: int(count) for hop, kind, count in json.loads(path.read_bytes())["ledger"] if hop == "stored"}
        epoch = (path.parent / "epoch").read_text().strip()
    except FileNotFoundError:
        return []
    held = {row["kind"]: row["events"] for row in site.select(
        "SELECT event_name AS kind, sum(count) AS events FROM events_raw WHERE epoch = {epoch:String} GROUP BY event_name",
        epoch=epoch)}
    return [f"{kind}: {count} were acknowledged, {held.get(kind, 0)} are stored" for kind, count in told.items()
            if count > held.get(kind, 0)]


def settle(site: Site, provokers: Sequence[Provoker], timeout_s: float = 60, *, may_lose: Iterable[str] = (),
           of_all_time: bool = True, last_word: bool = True) -> Account:
    """Compare until all adds up, since heartbeats come every 5 s and others go on; what is still wrong at the end is wrong."""
    until = time.monotonic() + timeout_s
    held: frozenset[str] = frozenset()
    while True:
        found = account(site, provokers, may_lose=may_lose, of_all_time=of_all_time, last_word=last_word)
        if not found.wrong:
            held |= found.kinds - found.laws.keys()
            if held >= found.kinds:
                return found
        if time.monotonic() > until:
            found.wrong += [law for kind, law in found.laws.items() if kind not in held]
            return found
        time.sleep(0.5)
