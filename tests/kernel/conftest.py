"""A loaded sensor, and small programs that provoke one thing each. Only events of the provoking program's own
tree are looked at."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from modelward_agent.sensor import Sensor, pins, records
from modelward_agent.sensor.constants import Ring, Segment
from modelward_proto.kinds import EVENT_NAMES


class Event:
    """One record, by attribute: header fields, ``name``, and texts as ``path``, ``asked``, ``interpreter``,
    ``cwd``, ``argv``."""

    def __init__(self, record: np.void) -> None:
        self._record = record
        self._texts = records.texts(record)
        self.name = EVENT_NAMES[int(record["kind"])]

    def __getattr__(self, name: str) -> Any:
        if name.upper() in Segment.__members__:
            return self._texts[Segment[name.upper()]]
        value = self._record[name]
        return value.tolist() if isinstance(value, np.ndarray) else value.item() if isinstance(value, np.generic) else value

    @property
    def args(self) -> list[bytes]:
        return self.argv.split(b"\0")[:-1]

    def __repr__(self) -> str:
        return f"<{self.name} pid={self.tgid} {self.path!r} phase={self.phase} scope={self.scope}>"


class Host:
    """A sensor that is drained while a provoking program runs."""

    def __init__(self, sensor: Sensor) -> None:
        self.sensor = sensor
        self._raw: list[np.ndarray] = []
        self._swapped = time.monotonic()

    def pump(self) -> None:
        self.sensor.wait(0.01)
        self.sensor.tick()
        drained = self.sensor.drain()
        self._raw += [part for part in (drained.small, drained.large) if part.size]
        self.sensor.commit(drained.positions)
        if time.monotonic() - self._swapped > 1:
            self._swap()

    def _swap(self) -> None:
        self._swapped = time.monotonic()
        repeats = self.sensor.swap_repeats()
        if repeats.small.size:
            self._raw.append(repeats.small)
        self.sensor.commit(repeats.positions)

    def pump_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.pump()

    def start(self, program: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start a Python program given as text; it is not tracked until it does something that makes it
        so."""
        return subprocess.Popen([sys.executable, "-S", "-c", program, *arguments], **options)

    def finish(self, process: subprocess.Popen[bytes], timeout: float = 30) -> int:
        """Drain until the process has ended, and what it did has come through."""
        end = time.monotonic() + timeout
        while process.poll() is None:
            assert time.monotonic() < end, "the provoking program did not end"
            self.pump()
        self.pump()
        self._swap()
        self.pump()
        return int(process.returncode)

    def run(self, program: str, *arguments: str, **options: Any) -> list[Event]:
        """Run a program to its end; the events of the group that it is the root of, in order of time."""
        process = self.start(program, *arguments, **options)
        code = self.finish(process)
        assert code == 0, f"the provoking program failed with {code}"
        return self.events(process.pid)

    def records(self, root: int) -> list[np.ndarray]:
        """Raw records of a group, without making an object of each."""
        return [part[part["root_tgid"] == root] for part in self._raw]

    def events(self, root: int) -> list[Event]:
        found = [Event(record) for part in self.records(root) for record in part]
        return sorted(found, key=lambda event: event.time_ns)

    def all_records(self) -> list[np.ndarray]:
        """Raw records of every group on this machine."""
        return self._raw

    def forget(self) -> None:
        self._raw.clear()

    @property
    def opens_by_call(self) -> bool:
        """Whether opens are seen at system calls: by names and descriptors, which others may change, and not at the file."""
        return any(d.effect == "file_open" and d.door.startswith("tracepoint") for d in self.sensor.doors())


class Caller:
    """A client outside every server: whoever sends a port, or the path of a unix socket, to :attr:`port` is connected to."""

    def __init__(self) -> None:
        self._orders = socket.socket(type=socket.SOCK_DGRAM)
        self._orders.bind(("127.0.0.1", 0))
        self.port: int = self._orders.getsockname()[1]
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            order = self._orders.recv(200).decode()
            threading.Thread(target=self._call, args=(order,), daemon=True).start()

    def _call(self, order: str) -> None:
        unix = "/" in order
        with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as client:
            client.connect(order if unix else ("127.0.0.1", int(order)))
            while client.recv(4096):
                pass


ANSWERING = """
import os, socket
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()

def accept(s=None):
    address = (s or listener).getsockname()
    with socket.socket(type=socket.SOCK_DGRAM) as order:
        order.sendto(str(address if isinstance(address, str) else address[1]).encode(), ("127.0.0.1", {port}))
    return (s or listener).accept()[0]

def answer(*parts, s=None):
    with accept(s) as accepted:
        for part in parts or (b"x",):
            accepted.send(part)
"""
"""Text for a provoking program: it answers a client that is none of its own."""

_caller = Caller()


def answering() -> str:
    return ANSWERING.replace("{port}", str(_caller.port))


@pytest.fixture(scope="session")
def shared_host() -> Iterator[Host]:
    # Room for every event of the largest test: these tests are about what is seen, not about a drainer that
    # lags on a busy machine.
    sensor = Sensor.open(ring_bytes={Ring.EVENTS: 128 << 20, Ring.CONTROL: 8 << 20}, watch=["watched-server"])
    yield Host(sensor)
    sensor.close()


@pytest.fixture
def host(shared_host: Host) -> Iterator[Host]:
    shared_host.pump()
    shared_host.forget()
    yield shared_host
    shared_host.forget()


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + bytes(100_000))
    return path


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder for pins."""
    root = pins.PINS.with_name(f"modelward-test-{os.getpid()}")
    yield root
    pins.remove(root)


def of(events: list[Event], name: str, **wanted: Any) -> list[Event]:
    """Events of one kind whose attributes have the wanted values."""
    return [e for e in events if e.name == name and all(getattr(e, key) == value for key, value in wanted.items())]
