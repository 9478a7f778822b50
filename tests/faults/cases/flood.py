"""More opens than the rings hold while nobody drains them."""

from __future__ import annotations

import os
import signal

from tests.faults.outcome import Outcome
from tests.faults.site import site
from tests.faults.truth import settle


def ring_flood(opens: int) -> Outcome:
    """The drainer is stopped while a server opens files: what the ring had no room for is counted, and told."""
    outcome = Outcome("ring flood", "the drainer is stopped (SIGSTOP) meanwhile; its ring holds some 63,000 opens")
    with site() as it:
        it.start_collector()
        agent = it.start_agent()
        provoker = it.provoker()
        provoker.do(distinct=500, execs=5)
        os.kill(agent.pid, signal.SIGSTOP)
        try:
            provoker.do(distinct=opens, canaries=10, execs=50, connects=50)
        finally:
            os.kill(agent.pid, signal.SIGCONT)
        outcome.take(settle(it, [provoker], 90, may_lose={"file_open"}))
        outcome.must(outcome.lost > 0, "the ring was never full")
        told = it.one("SELECT sum(count) AS n FROM events WHERE event_name = 'loss' AND loss_hop = 'ring_dropped'")
        outcome.must(int(told["n"]) == outcome.lost, f"{outcome.lost} events were lost, loss events say {told['n']}")
        outcome.must(it.select("SELECT 1 FROM detections WHERE event_name = 'loss'"), "no alert tells of the loss")
        provoker.do(1, distinct=1000, execs=10)
        outcome.take(settle(it, [provoker], 60, may_lose={"file_open"}))
    return outcome
