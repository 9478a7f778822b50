"""``make faults``: everything that can break, broken; prints a table, and fails when anything was lost, doubled or not said.

As root. ``python -m tests.faults [--seed N] [--only WORD]``; writes build/reports/faults.json.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
import traceback
from collections.abc import Callable, Iterator

from deploy.demo.report import Report
from tests.faults.cases import clocks_wrong, flood, full_disks, killing, outage, twins, wiped, wire
from tests.faults.outcome import Outcome
from tests.faults.site import site

ROUNDS = 30
OPENS = 200_000
CUTS = 20


def kill(chance: random.Random) -> Iterator[Outcome]:
    """All rounds of ``kill -9``."""
    with site() as it:
        it.start_collector()
        it.start_agent()
        outcomes: dict[str, Outcome] = {}
        for number, (victim, outcome) in enumerate(killing.kill_rounds(it, chance, ROUNDS, OPENS), 1):
            outcomes[victim] = outcome
            print(f"  round {number} of {ROUNDS}: {victim}, {outcome.stored:,} of {outcome.provoked:,} stored, "
                  f"{'; '.join(outcome.wrong) or 'ok'}", flush=True)
    yield from outcomes.values()


def one(case: Callable[[], Outcome]) -> Callable[[random.Random], Iterator[Outcome]]:
    def run(chance: random.Random) -> Iterator[Outcome]:
        begun = time.monotonic()
        outcome = case()
        outcome.seconds = time.monotonic() - begun
        yield outcome
    return run


def faults(chance: random.Random) -> dict[str, Callable[[random.Random], Iterator[Outcome]]]:
    """Every fault by name."""
    return {
        "kill": kill,
        "flood": one(lambda: flood.ring_flood(OPENS)),
        "agent disk": one(lambda: full_disks.agent_disk(OPENS)),
        "collector disk": one(lambda: full_disks.collector_disk(50_000)),
        "outage": one(lambda: outage.an_hour(120_000)),
        "clock agent ahead": one(lambda: clocks_wrong.wrong_clock("agent", clocks_wrong.HOUR_S, 30_000)),
        "clock agent behind": one(lambda: clocks_wrong.wrong_clock("agent", -clocks_wrong.HOUR_S, 30_000)),
        "clock collector ahead": one(lambda: clocks_wrong.wrong_clock("collector", clocks_wrong.HOUR_S, 30_000)),
        "clock collector behind": one(lambda: clocks_wrong.wrong_clock("collector", -clocks_wrong.HOUR_S, 30_000)),
        "clock agent set": one(lambda: clocks_wrong.stepping_clock("agent", 30_000)),
        "clock collector set": one(lambda: clocks_wrong.stepping_clock("collector", 30_000)),
        "cut streams": one(lambda: wire.cut_streams(chance, 60_000, CUTS)),
        "hostile peer": one(lambda: wire.hostile_peer(chance, 120)),
        "wiped state": one(lambda: wiped.state_folder(40_000)),
        "cloned state": one(lambda: twins.cloned_state(60)),
        "one certificate": one(twins.one_name),
        "wiped data": one(lambda: wiped.data_folder(20_000)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=time.time_ns() % 100_000, help="of what is random (printed)")
    parser.add_argument("--only", default="", help="only faults whose name holds this word")
    chosen = parser.parse_args()
    if os.geteuid() != 0:
        print("make faults kills, fills disks and attaches to the kernel: run it as root", file=sys.stderr)
        return 1
    print(f"seed {chosen.seed}")
    chance = random.Random(chosen.seed)
    done: list[Outcome] = []
    for name, run in faults(chance).items():
        if chosen.only not in name:
            continue
        print(f"{name} ...", flush=True)
        try:
            done += run(chance)
        except Exception as e:
            traceback.print_exc()
            done.append(Outcome(name, "", wrong=[f"{type(e).__name__}: {e}"]))
    return show(done, whole=not chosen.only)


def show(outcomes: list[Outcome], *, whole: bool) -> int:
    """The table, and the report if it is the ``whole`` one; the exit status."""
    report = Report("faults")
    print(f"\n{'fault':44} {'rounds':>6} {'provoked':>10} {'stored':>10} {'lost':>9} {'s':>5}  result")
    for o in outcomes:
        counts = f"{o.rounds:6} {o.provoked:10,} {o.stored:10,} {o.lost:9,} {o.seconds:5.0f}"
        print(f"{o.fault:44} {counts}  {'ok' if o.ok else 'WRONG'}")
        for line in o.wrong:
            print(f"{'':4}{line}")
        how = f"{o.how}; {o.rounds} rounds, {o.provoked} provoked, {o.stored} stored, {o.lost} named as lost, {o.seconds:.0f} s"
        report.add(o.fault, len(o.wrong), "wrong", how, o.ok)
    print("""
provoked, stored: of the provoking programs alone. lost: by the ledger of the whole host.
ok: each kind of event that was seen is stored or named as lost; no row and no detection is there twice; all that was
acknowledged is there.""")
    if whole:
        print(f"written: {report.write()}")
    return 0 if all(o.ok for o in outcomes) else 1


if __name__ == "__main__":
    raise SystemExit(main())
