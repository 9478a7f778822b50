"""``kill -9`` of each process that can lose something, at random moments of a run of opens, execs and connects."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator

from tests.faults.outcome import Outcome
from tests.faults.site import Provoker, Site
from tests.faults.truth import settle
from tests.faults.units import wait_for

RATE = 9_000
"""Opens a second: a machine of two cores stores some 50,000 rows a second, and it has the rest to run as well."""


def _of_collector(module: str) -> Callable[[Site], int]:
    def find(site: Site) -> int:
        found = site.collector.children(module) if site.collector else []
        return found[0] if found else 0
    return find


def _sender(site: Site) -> int:
    found = site.agent.children("modelward_agent.sender") if site.agent else []
    return found[0] if found else 0


def _drainer(site: Site) -> int:
    return site.agent.pid if site.agent else 0


VICTIMS: dict[str, Callable[[Site], int]] = {
    "drainer": _drainer, "sender": _sender,
    "receiver": _of_collector("ingest.receiver"), "store": _of_collector("store.process"),
}


def kill_rounds(site: Site, chance: random.Random, rounds: int, opens: int) -> Iterator[tuple[str, Outcome]]:
    """Rounds with victims in turns, on a running site; gives the victim and its outcome so far after each round.

    ``opens``: of each victim, over all its rounds.
    """
    outcomes = {
        victim: Outcome(f"kill -9 of the {victim}", "at a random moment of each round", rounds=0) for victim in VICTIMS}
    lost = 0
    order = [victim for _ in range(-(-rounds // len(VICTIMS))) for victim in chance.sample(list(VICTIMS), len(VICTIMS))][:rounds]
    for victim in order:
        begun = time.monotonic()
        each = -(-opens // order.count(victim))
        provoker = site.provoker()
        problem = _round(site, chance, provoker, victim, each)
        outcome, found = outcomes[victim], settle(site, [provoker], 120)
        outcome.rounds += 1
        outcome.provoked += found.provoked
        outcome.stored += found.stored
        outcome.lost, lost = outcome.lost + found.lost - lost, found.lost
        outcome.wrong += [*found.wrong, *([problem] if problem else [])]
        outcome.seconds += time.monotonic() - begun
        provoker.close()
        yield victim, outcome


def _round(site: Site, chance: random.Random, provoker: Provoker, victim: str, opens: int) -> str:
    seconds = opens / RATE
    same, canaries = opens // 8, 20
    provoker.ask(seconds, distinct=opens - same - canaries, same=same, canaries=canaries, execs=60, connects=60)
    time.sleep(chance.uniform(0, seconds * 1.1))
    find = VICTIMS[victim]
    wait_for(lambda: find(site), 60, f"a {victim} to kill")
    pid = find(site)
    os.kill(pid, signal.SIGKILL)
    provoker.wait()
    try:
        wait_for(lambda: find(site) not in (0, pid), 60, f"another {victim}")
    except TimeoutError as e:
        return str(e)
    return ""
