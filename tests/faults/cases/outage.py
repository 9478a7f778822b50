"""The collector is gone for an hour, and comes back to what piled up."""

from __future__ import annotations

import time

from tests.faults.clocks import Clock
from tests.faults.outcome import Outcome
from tests.faults.site import site
from tests.faults.truth import settle

STEPS = 12
HOUR_S = 3600
PAUSE_S = 0.5
NOTICED_S = 4.0
"""A stream that is away for two seconds makes nothing late."""

_ARRIVED = """SELECT countIf(e.late AND startsWith(file_path, {mine:String})) AS waiting,
countIf(NOT e.late AND startsWith(file_path, {live:String})) AS first FROM events AS e"""


def an_hour(opens: int, steps: int = STEPS) -> Outcome:
    """Time is compressed: both wall clocks are set ahead in ``steps``, and in each of them a part of the opens is done.
    Timers are monotonic and see some seconds: more than any of them waits before it calls a stream lost."""
    outcome = Outcome("collector gone for an hour", f"both wall clocks set ahead in {steps} steps; {steps * 2} s by timers")
    with site() as it:
        clock = Clock(it.folder)
        it.environment = clock.environment
        it.start_collector()
        it.start_agent()
        provoker = it.provoker()
        provoker.do(distinct=300, canaries=3, execs=3)
        outcome.take(settle(it, [provoker], 60))
        assert it.collector is not None
        it.collector.stop()
        time.sleep(NOTICED_S)
        for step in range(1, steps + 1):
            clock.set(step * HOUR_S // steps)
            provoker.do(1.2, distinct=opens // steps, same=200, canaries=2, execs=5, connects=5)
            time.sleep(PAUSE_S)
        it.collector.start()
        # Something happens again and again while the backlog is on its way: it goes first.
        live = it.provoker()
        overtook = False
        until = time.monotonic() + 90
        while time.monotonic() < until:
            live.do(distinct=5, canaries=1)
            if not it.healthy():
                continue
            row = it.one(_ARRIVED, live=live.opens, mine=provoker.opens)
            overtook = overtook or (int(row["first"]) > 0 and int(row["waiting"]) < opens)
            if int(row["waiting"]) >= opens:
                break
            time.sleep(0.05)
        outcome.must(overtook, "no live event was stored before the last one of the backlog")
        outcome.take(settle(it, [provoker, live], 120))
        found = it.one("SELECT countIf(d.late) AS overdue, countIf(NOT d.late) AS timely FROM detections AS d "
                       "WHERE rule_name = 'test_canary' AND startsWith(file_path, {mine:String})", mine=provoker.opens)
        outcome.must((int(found["overdue"]), int(found["timely"])) == (2 * steps, 3),
                     f"of 3 detections before the outage and {2 * steps} in it, {found['overdue']} are called late")
        span = it.one("SELECT dateDiff('minute', min(time), max(time)) AS minutes FROM events WHERE late")
        outcome.must(int(span["minutes"]) >= 45, f"the outage spans {span['minutes']} minutes by the events' times")
    return outcome
