"""(i) An agent that starts beside servers that run: from the start of its process until the last of theirs is tagged.

Every round is a first start: nothing of an earlier agent is left in the kernel, so that all of the kernel side is loaded and
checked.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

from modelward_agent.sensor import pins

from deploy.demo import models
from deploy.demo.place import Place
from deploy.demo.processes import free_port
from deploy.demo.report import Report
from deploy.demo.stack import Stack
from tests.bench.hosts import fresh
from tests.bench.progress import say

ROUNDS = 7
WORKERS = 64
PATIENCE_S = 60.0
GOAL_S = 1.0

# What a server with many workers looks like: each has a thread or two, and the model that was loaded before the forks is mapped.
_POOL = """
import mmap, os, sys, threading, time
model = mmap.mmap(os.open(sys.argv[1], os.O_RDONLY), 0, prot=mmap.PROT_READ)
for _ in range(int(sys.argv[2])):
    if os.fork() == 0:
        threading.Thread(target=time.sleep, args=(3600,)).start()
        break
time.sleep(3600)
"""


def measure(report: Report) -> None:
    """Adds the rows of this part."""
    with fresh() as host:
        folder, processes, stack = host.folder, host.processes, host.stack
        place = Place(processes, folder)
        llama, port = place.models / "tiny-llama.gguf", free_port()
        models.write_llama(llama, "tiny-llama")
        place.serve([sys.executable, "llama_server.py", str(llama), str(port)], port, llama).wait()
        pool = subprocess.Popen([sys.executable, "-c", _POOL, str(llama), str(WORKERS)], start_new_session=True)
        host.opened.callback(lambda: subprocess.run(["pkill", "-KILL", "-s", str(pool.pid)], check=False))
        time.sleep(2)
        stack.start_collector()
        say(f"{ROUNDS} first starts beside a llama.cpp server and a server with {WORKERS} workers")
        took = [_start(stack, folder) for _ in range(ROUNDS)]
    report.add("a first start of the agent, until the last process of servers that run is tagged", statistics.median(took), "s",
               f"< {GOAL_S:g}", statistics.median(took) < GOAL_S, spread=f"{min(took):.2f} to {max(took):.2f}",
               counted=f"{ROUNDS} starts of the program, {WORKERS + 2} processes each")


def _start(stack: Stack, folder: Path) -> float:
    """Seconds. Raises RuntimeError: not all of the processes were tagged."""
    begun = time.time()
    stack.start_agent()
    asked = ("SELECT toString(max(time)) AS last, uniqExact(process_pid) AS count FROM events WHERE event_name = 'lifecycle' "
             f"AND lifecycle_trigger = 'adopted' AND time > fromUnixTimestamp64Milli({int(begun * 1000)})")
    deadline = time.monotonic() + PATIENCE_S
    while int((row := stack.console.query(asked)[0])["count"]) < WORKERS + 2:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{row['count']} of {WORKERS + 2} processes were tagged")
        time.sleep(0.2)
    stack.stop_agent()
    pins.remove(pins.folder_of(folder / "agent"))
    return datetime.fromisoformat(f"{row['last'][:26]}+00:00").timestamp() - begun
