"""A disk without room, on either side."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from tests.faults.disks import fill, small_disk
from tests.faults.outcome import Outcome
from tests.faults.site import Site, site
from tests.faults.truth import settle
from tests.faults.units import wait_for


def agent_disk(opens: int) -> Outcome:
    """The agent's disk is full while no collector is there: the oldest opens go first, each of them counted."""
    outcome = Outcome("the agent's disk is full", "20 MiB for the state folder, no collector; later it comes back")
    with tempfile.TemporaryDirectory(prefix="modelward-disk-") as folder, small_disk(Path(folder) / "state", 20) as disk, \
            site(state=disk) as it:
        it.start_collector()
        it.start_agent()
        provoker = it.provoker()
        provoker.do(distinct=200, execs=20)
        assert it.collector is not None
        it.collector.stop()
        provoker.do(opens / 15_000, distinct=opens, same=opens // 10, execs=100, connects=100)
        time.sleep(2)
        it.collector.start()
        outcome.take(settle(it, [provoker], 90, may_lose={"file_open", "fork"}))
        outcome.must(outcome.lost > 0, "the disk was never full")
        _told(it, outcome)
        provoker.do(1, distinct=1000, execs=10)
        outcome.take(settle(it, [provoker], 60, may_lose={"file_open", "fork"}))
    return outcome


def collector_disk(opens: int) -> Outcome:
    """The collector's disk is full, whatever its own limits say: agents keep their events until there is room."""
    outcome = Outcome("the collector's disk is full", "no room for a while in the data folder (--min-free-bytes 0)")
    with tempfile.TemporaryDirectory(prefix="modelward-disk-") as folder, small_disk(Path(folder) / "data", 300) as disk, \
            site(data=disk) as it:
        it.collector_flags += ["--min-free-bytes", "0"]
        it.start_collector()
        it.start_agent()
        provoker = it.provoker()
        provoker.do(1, distinct=1000, canaries=5)
        outcome.take(settle(it, [provoker], 60))
        ballast = fill(disk)
        provoker.do(opens / 9_000, distinct=opens, canaries=20, execs=50)
        assert it.collector is not None
        words = it.collector.words
        try:
            wait_for(lambda: "takes no batches" in words(400), 30, "the collector's word that it has no room")
        except TimeoutError as e:
            outcome.wrong.append(f"{e}:\n{words()}")
        time.sleep(3)
        ballast.unlink()
        outcome.take(settle(it, [provoker], 120))
    return outcome


def _told(it: Site, outcome: Outcome) -> None:
    """What was dropped is an event of its own, and an alert."""
    [row] = it.select("SELECT sum(count) AS n FROM events WHERE event_name = 'loss' AND loss_hop = 'evicted'")
    lost = it.one("SELECT sum(count) AS n FROM ledger WHERE hop = 'evicted' AND kind != 'loss'")["n"]
    outcome.must(int(row["n"]) == lost, f"{lost} events were dropped, loss events say {row['n']}")
    outcome.must(it.select("SELECT 1 FROM detections WHERE event_name = 'loss'"), "no alert tells of the loss")

