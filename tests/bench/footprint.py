"""(d) Memory and idle CPU of both daemons, and what the collector takes while it stores and answers."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from pathlib import Path

import httpx

from deploy.demo.report import Report
from tests.batches import Agent, envelope, now_ns
from tests.bench import workload
from tests.bench.collector import later
from tests.bench.hosts import fresh
from tests.bench.processes import Family
from tests.bench.progress import say
from tests.bench.switch import Switch
from tests.running import Collector, collector

SETTLE_S = 5.0
IDLE_S = 20.0
RINGS = ("bpf-map", "bpf_ringbuf")
ROWS = 10_000
EVERY_S = 0.2
"""50,000 rows a second."""
STORING_S = 30.0
GOAL_AGENT_MB, GOAL_AGENT_PERCENT, GOAL_COLLECTOR_MB = 96, 0.5, 700

QUERIES = (
    "SELECT event_name, count() FROM events GROUP BY 1",
    "SELECT toStartOfSecond(time) AS t, count() FROM events WHERE time > now() - 60 GROUP BY 1 ORDER BY 1",
    "SELECT process_chain, count() AS n FROM events WHERE lifecycle_phase = 'serve' GROUP BY 1 ORDER BY n DESC LIMIT 20",
    "SELECT time, file_path FROM events WHERE process_entity_id = '2f0c1a2b-4713-55000000' ORDER BY time DESC LIMIT 200",
    "SELECT file_path, count() AS n FROM events WHERE file_path LIKE '%/torch/%' GROUP BY 1 ORDER BY n DESC LIMIT 50",
    "SELECT host_name, destination_address, uniq(process_pid) FROM events WHERE event_name = 'connect' GROUP BY 1, 2",
)


def measure(report: Report) -> None:
    """Adds the rows of this part."""
    _idle(report)
    _storing(report)


def _idle(report: Report) -> None:
    with fresh() as host:
        folder, stack = host.folder, host.stack
        stack.start()
        assert stack.agent is not None
        assert stack.collector is not None
        Switch(stack.agent.pid, folder / "agent").wait_proven()
        time.sleep(SETTLE_S)
        say(f"both daemons idle for {IDLE_S:.0f} s")
        agent, collected = Family.of(stack.agent.pid), Family.of(stack.collector.pid)
        before = agent.cpu_s(), collected.cpu_s()
        rows = int(stack.console.query("SELECT count() AS n FROM events")[0]["n"])
        time.sleep(IDLE_S)
        used = agent.cpu_s() - before[0], collected.cpu_s() - before[1]
        rows = int(stack.console.query("SELECT count() AS n FROM events")[0]["n"]) - rows
        tracked = int((stack.host() or {}).get("tracked_processes") or 0)
        counted = f"{IDLE_S:.0f} s, {tracked} tracked processes, {rows} rows stored meanwhile"
        megabytes = agent.pss_bytes(RINGS) / 1e6
        report.add("agent: memory (PSS) of all its processes, rings apart", megabytes, "MB", f"< {GOAL_AGENT_MB}",
                   megabytes < GOAL_AGENT_MB,
                   counted=f"{len(agent.members)} processes; with rings {agent.pss_bytes() / 1e6:.0f} MB")
        percent = used[0] / IDLE_S * 100
        report.add("agent: idle CPU", percent, "% of a core", f"< {GOAL_AGENT_PERCENT}", percent < GOAL_AGENT_PERCENT,
                   counted=counted)
        report.add("collector: memory (PSS) when idle", collected.pss_bytes() / 1e6, "MB", "", True,
                   counted=f"{len(collected.members)} processes")
        report.add("collector: idle CPU", used[1] / IDLE_S * 100, "% of a core", "", True, counted=counted)


def _storing(report: Report) -> None:
    say("making rows")
    tables = [workload.batch(ROWS, seed, now_ns()) for seed in range(8)]
    count = int(STORING_S / EVERY_S)
    with tempfile.TemporaryDirectory(prefix="modelward-bench-") as temporary, collector(Path(temporary)) as running, \
            Agent(running.grpc_address) as agent:
        agent.wait_welcome()
        say(f"{ROWS / EVERY_S:,.0f} rows a second for {STORING_S:.0f} s, {len(QUERIES)} queries in a loop")
        family = Family.of(running.process.pid)
        asking = _Asking(running)
        peak, sizes = 0, []
        begun = time.monotonic()
        waiting: dict[int, int] = {}
        for number in range(1, count + 1):
            batch = envelope(number, later(tables[number % len(tables)], int(number * EVERY_S * 1e9)))
            waiting[number] = batch.ByteSize()
            # As an agent does: no more on its way than the collector allows.
            while (waiting := {n: size for n, size in waiting.items() if n not in agent.stored}) and \
                    sum(waiting.values()) > max(agent.credit, waiting[number]):
                time.sleep(0.01)
            agent.send(batch)
            if number % 5 == 0:
                sizes.append(family.pss_bytes())
                peak = max(peak, sizes[-1])
            time.sleep(max(0.0, begun + number * EVERY_S - time.monotonic()))
        sent = time.monotonic() - begun
        agent.wait_answered(*range(1, count + 1), timeout_s=120)
        took = time.monotonic() - begun
        took_ms, failed = asking.end()
        used = family.cpu_s()
    report.add("collector: memory (PSS) while it stores and answers", peak / 1e6, "MB", f"< {GOAL_COLLECTOR_MB}",
               peak / 1e6 < GOAL_COLLECTOR_MB and not failed, spread=f"{min(sizes) / 1e6:.0f} to {peak / 1e6:.0f}",
               counted=f"{count * ROWS:,} rows sent in {sent:.1f} s, stored after {took:.1f} s; {used:.0f} s of CPU; "
               f"{len(took_ms)} queries, {failed} failed")
    report.add("queries meanwhile, median", statistics.median(took_ms), "ms", "", True,
               spread=f"{min(took_ms):.0f} to {max(took_ms):.0f}", counted=f"{len(took_ms)} queries of {len(QUERIES)} shapes")


class _Asking:
    """Asks the queries in turn, one after another, until it is ended."""

    def __init__(self, running: Collector) -> None:
        self._url = running.http_url
        self._ended = threading.Event()
        self._took_ms: list[float] = []
        self._failed = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> tuple[list[float], int]:
        """Milliseconds that each took, and how many were not answered."""
        self._ended.set()
        self._thread.join(30)
        return self._took_ms, self._failed

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30, trust_env=False) as client:
            while not self._ended.is_set():
                for sql in QUERIES:
                    begun = time.perf_counter()
                    try:
                        good = client.post("/api/v1/query", content=sql).status_code == 200
                    except httpx.HTTPError:
                        good = False
                    self._took_ms.append((time.perf_counter() - begun) * 1e3)
                    self._failed += not good
