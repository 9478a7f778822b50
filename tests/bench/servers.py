"""(c) What the agent costs real model servers: throughput and latency in interleaved pairs, and an accounting beside them.

Throughput on a small machine varies from second to second by more than the agent costs: hence many short pairs with a confidence
interval, and an accounting that adds up what the kernel and /proc say: run time of our programs and CPU of the agent, over the
CPU of the server. The system-call door is paid by every system call of the host and is not in the programs' run time: its price
is measured apart.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable

from deploy.demo import models
from deploy.demo.client import FLOWERS
from deploy.demo.place import ModelServer, Place
from deploy.demo.processes import free_port
from deploy.demo.report import Report
from tests.bench.asking import CALLS, STRACE, Asking, Kind, Window, call_ns, calls_per_request, interval, percentile, straced
from tests.bench.hosts import fresh
from tests.bench.processes import cpu_s
from tests.bench.progress import say
from tests.bench.switch import Switch, statistics_on

PAIRS = 10
STRACED = 3
LOADS = 5
WINDOW_S = 2.0
ACCOUNT_S = 6.0
GOAL_PERCENT = 1.0


def measure(report: Report) -> None:
    """Adds the rows of this part."""
    with fresh() as host:
        folder, processes, stack = host.folder, host.processes, host.stack
        stack.start()
        assert stack.agent is not None
        switch = Switch(stack.agent.pid, folder / "agent")
        switch.wait_proven()
        place = Place(processes, folder)
        for kind in _kinds(place):
            _serving(report, place, kind, switch)
            _loading(report, place, kind, switch)


def _kinds(place: Place) -> list[Kind]:
    llama, flowers = place.models / "tiny-llama.gguf", place.models / "flowers.joblib"
    models.write_llama(llama, "tiny-llama")
    models.write_classifier(flowers)
    uvicorn = [sys.executable, "-m", "uvicorn", "sklearn_app:app", "--log-level", "warning", "--host", "127.0.0.1", "--port"]
    return [
        Kind("llama.cpp", [sys.executable, "llama_server.py", str(llama)], llama, "/v1/completions",
             json.dumps({"prompt": "a b c", "max_tokens": 8})),
        Kind("FastAPI", uvicorn, flowers, "/predict", json.dumps({"features": FLOWERS[1]})),
    ]


def _start(place: Place, kind: Kind, before: list[str] | None = None) -> ModelServer:
    port = free_port()
    return place.serve([*(before or []), *kind.argv, str(port)], port, kind.model)


def _serving(report: Report, place: Place, kind: Kind, switch: Switch) -> None:
    server = _start(place, kind).wait()
    ask = Asking(server, kind)
    try:
        ask.window(1.0)
        bare: list[Window] = []
        watched: list[Window] = []
        calls: list[tuple[float, float]] = []
        say(f"{kind.name}: {PAIRS} pairs of {WINDOW_S:.0f} s without and with the agent")
        for turn in range(PAIRS):
            found: dict[bool, tuple[Window, float]] = {}
            # The order turns, so that what drifts does not count for one of them.
            for on in ((False, True) if turn % 2 else (True, False)):
                (switch.on if on else switch.off)()
                found[on] = ask.window(WINDOW_S), call_ns()
            bare.append(found[False][0])
            watched.append(found[True][0])
            calls.append((found[False][1], found[True][1]))
        switch.on()
        say(f"{kind.name}: accounting over {ACCOUNT_S:.0f} s, then its system calls")
        with statistics_on():
            kernel, agent = switch.kernel_s(), switch.cpu_s()
            account = ask.window(ACCOUNT_S)
            kernel, agent = switch.kernel_s() - kernel, switch.cpu_s() - agent
        per_request = calls_per_request(ask, server.pid, WINDOW_S)
        switch.off()
        say(f"{kind.name}: {STRACED} times {WINDOW_S:.0f} s under strace -f")
        traced = [straced(ask, server.pid, WINDOW_S) for _ in range(STRACED)]
    finally:
        ask.close()
        server.stop()
        switch.on()
    prices = [on - off for off, on in calls]
    door = statistics.median(prices)
    _report_pairs(report, kind, bare, watched, traced)
    _report_account(report, f"{kind.name} while serving", kernel, agent, account.cpu_s,
                    f"{len(account.latencies):,} requests in {account.seconds:.1f} s")
    share = per_request * len(account.latencies) * door / 1e9 / account.cpu_s * 100
    report.add(f"{kind.name} while serving: the system-call door", share, "% of the server's CPU", "", True,
               spread=f"{door:.0f} ns a call ({min(prices):.0f} to {max(prices):.0f})",
               counted=f"{per_request:.1f} system calls a request; {CALLS:,} calls of getppid in each of {PAIRS} pairs")


def _report_pairs(report: Report, kind: Kind, bare: list[Window], watched: list[Window], under: list[Window]) -> None:
    base = statistics.median(one.rate for one in bare)
    mean, half = interval([on.rate / off.rate for off, on in zip(bare, watched, strict=True)])
    report.add(f"{kind.name}: throughput under the agent", statistics.median(one.rate for one in watched), "requests/s", "", True,
               peer="bare", peer_value=base, ratio=mean, spread=f"95 % of the ratio: {mean - half:.3f} to {mean + half:.3f}",
               counted=f"{sum(len(one.latencies) for one in (*bare, *watched)):,} requests in {len(bare)} pairs")
    traced = statistics.median(one.rate for one in under)
    report.add(f"{kind.name}: throughput under strace -f", traced, "requests/s", "", True, peer="bare", peer_value=base,
               ratio=traced / base, counted=f"{sum(len(one.latencies) for one in under):,} requests")
    for percent in (50, 99):
        values = {name: percentile([lat for one in found for lat in one.latencies], percent) * 1e3
                  for name, found in (("bare", bare), ("agent", watched), ("strace -f", under))}
        pairs = [percentile(on.latencies, percent) / percentile(off.latencies, percent)
                 for off, on in zip(bare, watched, strict=True)]
        mean, half = interval(pairs)
        report.add(f"{kind.name}: p{percent} under the agent", values["agent"], "ms", "", True, peer="bare",
                   peer_value=values["bare"], ratio=mean, spread=f"95 % of the ratio: {mean - half:.3f} to {mean + half:.3f}")
        report.add(f"{kind.name}: p{percent} under strace -f", values["strace -f"], "ms", "", True, peer="bare",
                   peer_value=values["bare"], ratio=values["strace -f"] / values["bare"])


def _report_account(report: Report, what: str, kernel_s: float, agent_s: float, server_s: float, counted: str) -> None:
    percent = (kernel_s + agent_s) / server_s * 100
    report.add(f"{what}: programs and agent, without the door", percent, "% of the server's CPU", f"< {GOAL_PERCENT:.0f} %",
               percent < GOAL_PERCENT, counted=f"{counted}; programs {kernel_s * 1e3:.1f} ms, agent {agent_s * 1e3:.0f} ms, "
               f"server {server_s * 1e3:,.0f} ms")


def _loading(report: Report, place: Place, kind: Kind, switch: Switch) -> None:
    """From the start of the server to its first answer."""
    say(f"{kind.name}: {LOADS} pairs of starts and loads, 2 under strace -f")
    took: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(LOADS):
        for on in ((False, True) if turn % 2 else (True, False)):
            (switch.on if on else switch.off)()
            took[on].append(_load_s(place, kind))
    switch.on()
    with statistics_on():
        before = switch.kernel_s(), switch.cpu_s()
        used: list[float] = []
        for _ in range(2):
            _load_s(place, kind, lambda pid: used.append(cpu_s(pid)))
        time.sleep(1.5)
        kernel, agent = switch.kernel_s() - before[0], switch.cpu_s() - before[1]
    switch.off()
    traced = [_load_s(place, kind, before=STRACE) for _ in range(2)]
    switch.on()
    base = statistics.median(took[False])
    mean, half = interval([on / off for off, on in zip(took[False], took[True], strict=True)])
    report.add(f"{kind.name}: start and load under the agent", statistics.median(took[True]), "s", "", True, peer="bare",
               peer_value=base, ratio=mean, spread=f"95 % of the ratio: {mean - half:.3f} to {mean + half:.3f}",
               counted=f"{LOADS} pairs")
    report.add(f"{kind.name}: start and load under strace -f", statistics.median(traced), "s", "", True, peer="bare",
               peer_value=base, ratio=statistics.median(traced) / base, counted="2 starts")
    _report_account(report, f"{kind.name} start and load", kernel, agent, sum(used), "2 starts")


def _load_s(place: Place, kind: Kind, look: Callable[[int], object] = lambda pid: None, before: list[str] | None = None) -> float:
    begun = time.monotonic()
    server = _start(place, kind, before)
    try:
        server.wait()
        took = time.monotonic() - begun
        look(server.pid)
    finally:
        server.stop()
    return took
