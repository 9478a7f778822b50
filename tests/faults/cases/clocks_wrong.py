"""A wall clock that is an hour wrong, on either side, and one that is set while events flow."""

from __future__ import annotations

import time

from tests.faults.clocks import Clock
from tests.faults.outcome import Outcome
from tests.faults.site import Site, site
from tests.faults.truth import settle

HOUR_S = 3600
PHASES = 3


def wrong_clock(side: str, offset_s: int, opens: int) -> Outcome:
    """``side``: agent or collector."""
    words = f"an hour {'ahead' if offset_s > 0 else 'behind'}"
    outcome = Outcome(f"clock of the {side} {words}", "nothing may be lost, set aside or called silent")
    with site() as it:
        clock = Clock(it.folder, offset_s)
        it.start_collector(clock.environment if side == "collector" else None)
        it.start_agent(clock.environment if side == "agent" else None)
        _run(it, outcome, None, opens)
    return outcome


def stepping_clock(side: str, opens: int) -> Outcome:
    """The clock jumps an hour ahead, then two hours back, while events flow."""
    outcome = Outcome(f"clock of the {side} is set while it runs", "true, then an hour ahead, then an hour behind")
    with site() as it:
        clock = Clock(it.folder)
        it.start_collector(clock.environment if side == "collector" else None)
        it.start_agent(clock.environment if side == "agent" else None)
        _run(it, outcome, clock, opens)
    return outcome


def _run(it: Site, outcome: Outcome, clock: Clock | None, opens: int) -> None:
    provoker = it.provoker()
    begun = time.time()
    for offset_s in (0, HOUR_S, -HOUR_S):
        if clock is not None:
            clock.set(offset_s)
        provoker.do(opens / PHASES / 9_000, distinct=opens // PHASES, same=100, canaries=5, execs=20, connects=20)
        time.sleep(1)
    outcome.take(settle(it, [provoker], 60))
    outcome.must(not it.select("SELECT 1 FROM quarantine"), "batches were set aside")
    if it.collector is not None and not it.collector.environment:
        # The engine reads the kernel's clock itself, so beside a wrong clock of the collector this would prove nothing.
        host = it.one("SELECT connected, silent, problems FROM hosts")
        outcome.must(host["connected"] and not host["silent"], f"the host is not shown as connected: {host}")
        outcome.must(not it.select("SELECT 1 FROM detections WHERE event_name = 'agent_silent'"), "a live host was called silent")
    late = it.one("SELECT countIf(late) AS n FROM events WHERE startsWith(file_path, {opens:String})", opens=provoker.opens)["n"]
    outcome.must(not int(late), f"{late} events were called late, and the stream was open all the time")
    outcome.notes.append(f"{time.time() - begun:.0f} s")
