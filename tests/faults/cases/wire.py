"""A network that breaks in the middle of messages, and a peer that repeats, reorders and halves its batches."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from modelward_proto.v1.stream_pb2 import Batch

from tests.batches import Agent, envelope, events, from_rows, now_ns, payload
from tests.faults.outcome import Outcome
from tests.faults.proxy import CuttingProxy
from tests.faults.site import CANARY, site
from tests.faults.truth import settle
from tests.faults.units import wait_for
from tests.running import select

ROWS = 200


def cut_streams(chance: random.Random, opens: int, cuts: int) -> Outcome:
    """Streams of a real agent, cut by a proxy after a random number of bytes, in whichever direction they flow."""
    # A row takes 50 bytes or so on the wire: less than half of all that is sent goes before the cuts.
    most_bytes = 36 * opens // cuts
    outcome = Outcome("streams cut in the middle of a message", f"{cuts} times, after up to {most_bytes // 1000} kB each")
    with site() as it:
        it.start_collector()
        proxy = CuttingProxy(it.listen, chance, cuts=cuts, most_bytes=most_bytes)
        it.target = proxy.address
        try:
            agent = it.start_agent(connected=False)
            wait_for(lambda: "watching" in agent.words(), 60, "the agent's hooks")
            provoker = it.provoker()
            provoker.do(opens / 6_000, distinct=opens, same=500, canaries=20, execs=50, connects=50)
            outcome.take(settle(it, [provoker], 120))
        finally:
            proxy.close()
        outcome.must(proxy.cut > cuts // 2, f"only {proxy.cut} streams were cut")
        outcome.must(not it.select("SELECT 1 FROM quarantine"), "batches were set aside")
    return outcome


def hostile_peer(chance: random.Random, batches: int) -> Outcome:
    """A peer that speaks the wire itself: batches twice, in any order, on streams that break; every tenth is cut off inside."""
    outcome = Outcome("duplicated, reordered and half-sent batches", "by a peer that speaks the wire, on streams that break")
    with site() as it:
        it.start_collector()
        made = [_batch(number) for number in range(1, batches + 1)]
        # A payload that ends in the middle, under a name of its own: it can never be stored, and is lost by name.
        halves = {number: _half(number) for number in range(batches + 1, batches + 1 + batches // 10)}
        acknowledged: set[int] = set()
        aside: set[int] = set()
        for last in (False,) * 7 + (True,):
            order: list[Batch] = [*made, *halves.values(), *chance.sample(made, len(made) // 3)]
            chance.shuffle(order)
            with Agent(it.listen, host="hostile") as agent:
                agent.wait_welcome()
                if last:
                    agent.send(*order)
                    agent.wait_answered(*range(1, batches + 1), *halves, timeout_s=60)
                else:
                    agent.send(*order[: chance.randrange(1, len(order))])
                    time.sleep(chance.uniform(0, 0.4))
                    agent.cut()
                acknowledged |= agent.stored
                aside |= set(agent.quarantined)
        outcome.provoked = (batches + len(halves)) * (ROWS + 1)
        _compare(it.data, outcome, made, halves, acknowledged, aside)
    return outcome


def _batch(number: int) -> Batch:
    canary = from_rows([{"time": now_ns(), "event.name": "file_open", "file.path": f"/srv/faults-canary-{number}",
                         "workload.id": "w", "process.root_id": "r"}])
    table = events(ROWS, seed=number, event_name="file_open")
    [joined] = pa.Table.from_batches([table, canary]).combine_chunks().to_batches()
    return envelope(number, joined)


def _half(number: int) -> Batch:
    whole = _batch(number)
    whole.arrow = payload(events(ROWS, seed=number))[:-700]
    return whole


def _compare(data: Path, outcome: Outcome, made: Sequence[Batch], halves: dict[int, Batch], acknowledged: set[int],
             aside: set[int]) -> None:
    def ask(sql: str) -> dict[str, int]:
        [row] = select(data, sql)
        return {name: int(value) for name, value in row.items()}

    rows = ask("SELECT count() AS n, uniqExact(agent_id, epoch, batch, row) AS names, uniqExact(batch) AS batches "
               "FROM events_raw WHERE host_name = 'hostile' AND event_name != 'loss'")
    outcome.stored = rows["n"]
    wanted = len(made) * (ROWS + 1)
    outcome.must(rows == {"n": wanted, "names": wanted, "batches": len(made)}, f"{wanted} rows are to be stored, found {rows}")
    found = ask(f"SELECT count() AS n, uniqExact(detection_id) AS ids FROM detections WHERE rule_name = '{CANARY}'")
    outcome.must(found == {"n": len(made), "ids": len(made)}, f"{len(made)} canaries, found {found}")
    outcome.must(acknowledged == set(range(1, len(made) + 1)), "other batches were acknowledged than are stored")
    outcome.must(aside == set(halves), f"{len(halves)} halves, {len(aside)} batches were set aside")
    lost = "SELECT sum(count) AS n FROM {} WHERE hop = 'quarantined' AND kind != 'loss'"
    wait_for(lambda: ask(lost.format("ledger"))["n"] == len(halves) * (ROWS + 1), 10, "the ledger's word on the halves")
    outcome.lost = ask(lost.format("ledger"))["n"]
