"""The life of a workload as its host tells of it: for tests of what people see of models and of time."""

from __future__ import annotations

import time
from typing import Any

from tests.batches import BOOT

Row = dict[str, Any]

SECOND = 10**9


class Life:
    """A workload that loads models, answers and ends. Times are seconds before now."""

    def __init__(self, workload: str = "container:5e1ec7ed0001", *, runtime: str = "uvicorn", version: str = "0.54.0",
                 boot: str = BOOT, now_ns: int | None = None) -> None:
        self.workload, self.runtime, self.version, self.boot = workload, runtime, version, boot
        self.now = now_ns or time.time_ns()
        self.rows: list[Row] = []

    def process(self, pid: int, *, thread: int = 0, program: str = "/usr/bin/python3.11", parent: int = 4000) -> Row:
        """Fields of a process and a thread of it."""
        return {
            "host.boot_id": self.boot, "workload.id": self.workload, "workload.runtime": self.runtime,
            "workload.runtime_version": self.version, "process.pid": pid, "thread.id": thread or pid,
            "process.entity_id": f"{self.boot[:8]}-{pid}-55000000", "process.root_id": f"{self.boot[:8]}-4000-55000000",
            "process.parent.entity_id": f"{self.boot[:8]}-{parent}-55000000", "process.parent.pid": parent,
            "process.executable.path": program, "process.command_line": program.rpartition("/")[2],
            "process.chain": "python3.11", "process.entry": "server",
        }

    def put(self, ago: float, name: str, process: Row, **fields: Any) -> Row:
        """Add a row; names of fields with ``__`` for the dot."""
        row = process | {"time": self.now - int(ago * SECOND), "event.name": name}
        row |= {key.replace("__", "."): value for key, value in fields.items()}
        self.rows.append(row)
        return row

    def turn(self, ago: float, process: Row, before: str, after: str, trigger: str, *, instance: int = 0,
             scope: str = "none", **fields: Any) -> None:
        """Add a transition."""
        self.put(ago, "lifecycle", process, lifecycle__phase=after, lifecycle__from=before, lifecycle__trigger=trigger,
                 lifecycle__scope=scope, model__instance=instance, **fields)

    def load(self, ago: float, process: Row, instance: int, path: str, *, took: float = 5, tail: float = 10,
             before: str = "start", after: str = "serve") -> None:
        """A load that is read, quiet, and over with an answer."""
        self.turn(ago, process, before, "load", "artifact_open", instance=instance, scope="open", file__path=path)
        quiet = "warmup" if before == "start" else before
        self.turn(ago - took, process, "load", quiet, "quiet", instance=instance, scope="tail")
        self.turn(ago - took - tail, process, "load", after, "answer", instance=instance)

    def identity(self, ago: float, process: Row, instance: int, model: str, *, digest: str = "", **fields: Any) -> None:
        """Which model an instance is."""
        self.put(ago, "model_identity", process, model__instance=instance, model__id=model,
                 model__digest=digest or f"{instance:064x}", model__format="gguf", model__source="file",
                 model__path=f"/srv/{model}", **fields)

    def exit(self, ago: float, process: Row, *, signal: int = 0) -> None:
        """A process ends."""
        self.put(ago, "exit", process, process__exit__code=-1 if signal else 0, process__exit__signal=signal)


def busy_server(model: str = "tiny-llama", second: str = "sentiment", *, program: str = "/usr/bin/dash", first: int = 71,
                **life: Any) -> list[Row]:
    """A server that loads one model, answers, and loads another meanwhile, whose load starts a shell that reads secrets.

    Their loads are instances ``first`` and the next.
    """
    made = Life(**life)
    server, pool = made.process(4000), made.process(4000, thread=4007)
    made.put(1500, "exec", server, lifecycle__phase="start")
    made.turn(1500, server, "unknown", "start", "exec")
    made.load(1450, server, first, f"/srv/{model}", took=200, tail=60)
    made.identity(1400, server, first, model, digest=f"{first}" * 32, model__architecture="llama", model__quantization="Q4_K_M")
    made.put(1100, "connect", server, destination__address="10.0.0.7", destination__port=443, lifecycle__phase="serve",
             network__transport="tcp")
    made.turn(700, pool, "serve", "load", "probe_enter", instance=first + 1, scope="open", lifecycle__detail="torch.load")
    made.identity(690, pool, first + 1, second, digest=f"{first + 1}" * 32, model__base="org/base")
    shell = made.process(4100, program=program)
    planted = {"lifecycle__phase": "load", "lifecycle__scope": "open", "lifecycle__origin__phase": "load",
               "lifecycle__origin__scope": "open", "lifecycle__origin__via": "fork", "lifecycle__origin__instance": first + 1,
               "model__instance": first + 1}
    made.put(640, "exec", shell, process__executable__asked="/bin/sh", process__command_line="sh -c id", **planted)
    made.put(620, "file_open", shell, file__path="/root/.aws/credentials", file__access="read", **planted)
    made.turn(500, pool, "load", "serve", "probe_return", instance=first + 1, lifecycle__detail="torch.load")
    return made.rows
