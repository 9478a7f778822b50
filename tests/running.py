"""Real processes for tests: a collector on free ports, ready when the context is entered, stopped when it is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from modelward_proto.v1 import store_pb2_grpc
from modelward_proto.v1.store_pb2 import SelectRequest


class Collector(NamedTuple):
    """A running collector. ``log`` grows while it runs: parsed JSON lines."""

    grpc_address: str
    http_url: str
    process: subprocess.Popen[bytes]
    data: Path
    log: list[dict[str, Any]]

    def select(self, sql: str, **parameters: object) -> list[dict[str, Any]]:
        """Rows of a query on the store, past the gate. 64-bit integers come as int."""
        return select(self.data, sql, **parameters)

    def children(self, module: str) -> list[int]:
        """Process ids of this collector's processes that run a module, such as ``store.process``."""
        found = []
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(status.read_text().rpartition(")")[2].split()[1])
                command = (status.parent / "cmdline").read_bytes()
            except (OSError, ValueError, IndexError):
                continue
            if parent == self.process.pid and module.encode() in command:
                found.append(int(status.parent.name))
        return found

    def wait_log(self, message: str, timeout_s: float = 30, *, after: int = 0) -> dict[str, Any]:
        """The first line of the log, from line ``after`` on, whose message holds a text."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            for line in self.log[after:]:
                if message in line["message"]:
                    return line
            if self.process.poll() is not None:
                time.sleep(0.2)
                break
            time.sleep(0.05)
        for line in self.log[after:]:
            if message in line["message"]:
                return line
        raise TimeoutError(f"no '{message}' in the collector's log:\n" + "\n".join(map(json.dumps, self.log[-30:])))


@contextmanager
def collector(folder: Path, *flags: str, environment: dict[str, str] | None = None, **settings: object) -> Iterator[Collector]:
    """Run ``modelward-collector run`` on ``folder / "data"`` and free ports.

    ``settings`` are flags by their name in the settings (``silent_after_s=2``, ``rules=[path]``); ``flags`` go in as they are.
    """
    data = Path(str(settings.pop("data", folder / "data")))
    given = {"listen": "127.0.0.1:0", "http": "127.0.0.1:0", "log_format": "json"} | settings
    command = [sys.executable, "-m", "modelward_collector.cli", "run", "--data", str(data), *flags]
    for name, value in given.items():
        values: Sequence[object] = value if isinstance(value, (list, tuple)) else [value]
        for one in values:
            command += ["--" + name.replace("_", "-"), str(one)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=os.environ | (environment or {}))
    log: list[dict[str, Any]] = []
    reader = threading.Thread(target=_read, args=(process, log), daemon=True)
    reader.start()
    made = Collector("", "", process, data, log)
    try:
        ready = made.wait_log("ready", 60)
        yield made._replace(grpc_address=ready["agents"], http_url=ready["http"].rstrip("/"))
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(45)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join(10)


def select(data: Path, sql: str, **parameters: object) -> list[dict[str, Any]]:
    """Rows of a query on the store of a collector with this data folder."""
    with grpc.insecure_channel(f"unix:{data / 'run' / 'store.sock'}") as channel:
        reply = store_pb2_grpc.StoreStub(channel).Select(
            SelectRequest(sql=sql, format="JSON", parameters={k: str(v) for k, v in parameters.items()}),
            wait_for_ready=True, timeout=30)
    if reply.error:
        raise AssertionError(f"{reply.kind}: {reply.error}")
    answer = json.loads(reply.data)
    wide = {c["name"] for c in answer["meta"] if c["type"] in ("UInt64", "Int64")}
    return [{k: int(v) if k in wide else v for k, v in row.items()} for row in answer["data"]]


def _read(process: subprocess.Popen[bytes], log: list[dict[str, Any]]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        try:
            log.append(json.loads(line))
        except ValueError:
            log.append({"message": line.decode("utf-8", "replace").rstrip(), "level": "unparsed"})
