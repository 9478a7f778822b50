"""Servers that fork and exec without pause while the sensor starts: every task is tagged, by the server's own word on them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from modelward_agent.sensor import Sensor
from modelward_agent.sensor.constants import Ring

from .conftest import Host

pytestmark = pytest.mark.kernel

_SOURCE = Path(__file__).with_name("storm.c")


class Made(NamedTuple):
    """A file that a task of the storm made: its name is the truth."""

    how: str
    number: int
    born_ns: int
    made_ns: int

    @classmethod
    def of(cls, name: str) -> Made:
        how, *numbers = name.split("-")
        return cls(how, *map(int, numbers))


@pytest.fixture
def storm(artifact: Path, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    program, folder = tmp_path / "storm", tmp_path / "made"
    subprocess.run(["cc", "-O2", "-pthread", "-o", program, _SOURCE], check=True)
    folder.mkdir()
    process = subprocess.Popen([program, artifact, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()


def _end(storm: subprocess.Popen[bytes], host: Host) -> None:
    assert storm.stdin
    storm.stdin.close()
    host.finish(storm)
    # The last orphans are still at it.
    host.pump_for(0.3)


def _seen(host: Host, root: int, folder: Path) -> dict[Made, int]:
    """Files made in the group, with the time of their records."""
    prefix, found = bytes(folder) + b"/", {}
    for part in host.records(root):
        chosen = part[(part["kind"] == 16) & (part["access"] == 2)]
        lengths = chosen["seg"][:, 0].tolist()
        for text, length, when in zip(chosen["text"].tolist(), lengths, chosen["time_ns"].tolist(), strict=True):
            if (path := bytes(text)[:length]).startswith(prefix):
                found[Made.of(path.removeprefix(prefix).decode())] = when
    return found


def test_every_task_of_a_storm_of_forks_is_tagged_while_the_sensor_starts(
    storm: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    time.sleep(0.3)
    sensor = Sensor.open(ring_bytes={Ring.CONTROL: 16 << 20, Ring.EVENTS: 64 << 20})
    opened_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    try:
        host = Host(sensor)
        host.pump_for(1.0)
        _end(storm, host)
        seen = _seen(host, storm.pid, tmp_path / "made")
    finally:
        sensor.close()
    made = {Made.of(path.name) for path in (tmp_path / "made").iterdir()}
    # From its first record on the server was tagged, and so was whatever it started. What was orphaned before is nobody's.
    tagged_ns = min(when for what, when in seen.items() if what.how == "server")
    due = {m for m in made if m.born_ns > tagged_ns or (m.made_ns > opened_ns and m.how == "child")}
    assert {m.how for m in due} == {"server", "child", "orphan", "exec"}
    missing = sorted(due - seen.keys())
    assert not missing, f"{len(missing)} of {len(due)} tasks are not tagged: {missing[:10]}"

