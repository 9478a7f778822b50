"""(f) Rows that ordinary model servers make in an hour, from what the demo's two make in a minute of service."""

from __future__ import annotations

import time

from deploy.demo import models
from deploy.demo.place import Place
from deploy.demo.report import Report
from deploy.demo.stack import Stack
from tests.bench.hosts import fresh
from tests.bench.progress import say

SECONDS = 60.0
A_SECOND = 5
"""Requests to each server."""
HEALTH_S = 5.0
GOAL = 20_000


def measure(report: Report) -> None:
    """Adds the rows of this part."""
    with fresh() as host:
        folder, processes, stack = host.folder, host.processes, host.stack
        stack.start()
        place = Place(processes, folder)
        llama, flowers = place.models / "tiny-llama.gguf", place.models / "flowers.joblib"
        models.write_llama(llama, "tiny-llama")
        models.write_classifier(flowers)
        servers = [place.llama(llama).wait(), place.uvicorn("sklearn_app", flowers).wait()]
        roots = [server.pid for server in servers]
        servers[0].client.complete(20)
        servers[1].client.classify(20)
        time.sleep(3)
        starting = _rows(stack, roots)
        say(f"{A_SECOND} requests a second to each of two servers for {SECONDS:.0f} s, a health check every {HEALTH_S:.0f} s")
        begun, requests, health = time.monotonic(), 0, 0
        while (now := time.monotonic() - begun) < SECONDS:
            servers[0].client.complete(1)
            servers[1].client.classify(1)
            requests += 2
            if now >= health * HEALTH_S:
                health += 1
                for server in servers:
                    server.client.health()
            time.sleep(max(0.0, begun + requests / 2 / A_SECOND - time.monotonic()))
        took = time.monotonic() - begun
        time.sleep(3)
        found = _rows(stack, roots)
        for server in servers:
            server.stop()
    kinds = {kind: found[kind] - starting.get(kind, 0) for kind in found if found[kind] != starting.get(kind, 0)}
    hourly = sum(kinds.values()) / took * 3600
    report.add("rows stored an hour by two serving models", hourly, "rows/h", f"< {GOAL:,}", hourly < GOAL,
               spread=", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items())) or "none at all",
               counted=f"{sum(kinds.values())} rows of {requests} requests in {took:.0f} s")
    report.add("rows of their starts and loads", float(sum(starting.values())), "rows", "", True,
               spread=", ".join(f"{kind} {count}" for kind, count in sorted(starting.items())))


def _rows(stack: Stack, roots: list[int]) -> dict[str, int]:
    """Rows of these workloads so far, by kind."""
    of = " OR ".join(f"process_root_id LIKE '%-{int(root)}-%'" for root in roots)
    answer = stack.console.query(f"SELECT event_name AS kind, count() AS n FROM events WHERE {of} GROUP BY 1")
    return {str(row["kind"]): int(row["n"]) for row in answer}
