"""A state folder that is gone, while the hooks go on; and a data folder that is gone, which is a loss that must be said."""

from __future__ import annotations

import shutil
import signal

from tests.faults.outcome import Outcome
from tests.faults.site import site
from tests.faults.truth import settle


def state_folder(opens: int) -> Outcome:
    """The agent is killed, things go on, its state folder is removed: the next agent finds the hooks and their rings."""
    outcome = Outcome("wiped state folder of the agent", "after kill -9, while the pinned rings hold records nobody has read")
    with site() as it:
        it.start_collector()
        agent = it.start_agent()
        provoker = it.provoker()
        provoker.do(1, distinct=2000, same=200, canaries=5, execs=20, connects=20)
        outcome.take(settle(it, [provoker], 60))
        agent.stop(signal.SIGKILL)
        provoker.do(distinct=opens, same=200, canaries=5, execs=20, connects=20)
        shutil.rmtree(it.state)
        agent.start()
        provoker.do(1, distinct=1000, execs=5)
        outcome.take(settle(it, [provoker], 90, last_word=False))
        agents = it.one("SELECT uniqExact(agent_id) AS n FROM events_raw WHERE event_name = 'exec'")["n"]
        outcome.must(int(agents) == 2, f"{agents} agents are known, the old one and the new one are to be told apart")
        outcome.must(it.select("SELECT 1 FROM hosts WHERE arrayExists(p -> p LIKE '%state folder was emptied%', problems)"),
                     "nobody says that the state folder was emptied, with what had not been delivered in it")
        outcome.must(not it.select("SELECT 1 FROM detections WHERE event_name = 'agent_twice'"), "a new agent is called a twin")
    return outcome


def data_folder(opens: int) -> Outcome:
    """The collector's data folder is removed: what was in it is gone, by decision, and all that comes later is stored."""
    outcome = Outcome("wiped data folder of the collector", "a stated loss of what it held; what comes after is stored")
    with site() as it:
        collector = it.start_collector()
        it.start_agent()
        before = it.provoker()
        before.do(1, distinct=1000, canaries=5)
        outcome.take(settle(it, [before], 60))
        held = outcome.stored
        collector.stop()
        after = it.provoker()
        after.do(opens / 9_000, distinct=opens, same=300, canaries=5, execs=20, connects=20)
        shutil.rmtree(it.data)
        it.provokers.remove(before)
        collector.start()
        outcome.take(settle(it, [after], 90, of_all_time=False))
        outcome.notes.append(f"{held} events were in the folder")
        lost = it.one("SELECT sum(seen) AS seen, sum(stored) AS stored FROM hosts")
        outcome.must(int(lost["seen"]) - int(lost["stored"]) >= held, "the hosts' totals do not show what is gone")
    return outcome
