"""Rings: nothing is overwritten before it is committed, what has no room is counted, control records have
room of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from modelward_agent.sensor import Sensor, SensorError, records
from modelward_agent.sensor.constants import Ring

from .conftest import Host

pytestmark = pytest.mark.kernel

_OPENS = 1000
_PROGRAM = f"""
import os, sys
os.close(os.open(sys.argv[1], os.O_RDONLY))
folder = os.open(sys.argv[2], os.O_RDONLY)
for n in range({_OPENS}):
    os.close(os.open(f"f{{n}}", os.O_WRONLY | os.O_CREAT, dir_fd=folder))
os.spawnv(os.P_WAIT, "/bin/true", ["true", "after the flood"])
"""


@pytest.fixture
def narrow() -> Iterator[Sensor]:
    """A sensor whose ring for opens holds under 50 records."""
    sensor = Sensor.open(ring_bytes={Ring.EVENTS: 1 << 14})
    yield sensor
    sensor.close()


def _flood(artifact: Path, folder: Path) -> int:
    process = subprocess.Popen([sys.executable, "-S", "-c", _PROGRAM, str(artifact), str(folder)])
    assert process.wait() == 0
    return process.pid


def test_what_has_no_room_is_counted_by_kind_and_seen_as_gaps(narrow: Sensor, artifact: Path, tmp_path: Path) -> None:
    _flood(artifact, tmp_path)
    first = narrow.drain()
    narrow.commit(first.positions)
    # Gaps show once a later record of that CPU arrives.
    for cpu in os.sched_getaffinity(0):
        _open_on(cpu, artifact)
    rest = narrow.drain()
    gaps = sum(n for drained in (first, rest) for (ring, _), n in drained.gaps.items() if ring == Ring.EVENTS)
    dropped = narrow.counters()["ring_dropped", "file_open"]
    assert dropped > _OPENS - 100
    assert gaps <= dropped
    assert gaps > _OPENS - 200


def _open_on(cpu: int, artifact: Path) -> None:
    program = f"import os, sys; os.sched_setaffinity(0, [{cpu}]); os.close(os.open(sys.argv[1], os.O_RDONLY))"
    subprocess.run([sys.executable, "-S", "-c", program, str(artifact)], check=True)


def test_seen_is_emitted_and_dropped_and_still_counted(narrow: Sensor, artifact: Path, tmp_path: Path) -> None:
    _flood(artifact, tmp_path)
    drained = narrow.drain()
    narrow.commit(drained.positions)
    repeats = narrow.swap_repeats()
    narrow.commit(repeats.positions)
    counters = narrow.counters()
    emitted = sum(int(part["count"][part["kind"] == 16].sum()) for part in (drained.small, drained.large, repeats.small))
    again = narrow.drain()
    emitted += sum(int(part["count"][part["kind"] == 16].sum()) for part in (again.small, again.large))
    in_table = int(narrow.swap_repeats().small["count"].sum())
    assert counters["seen", "file_open"] <= emitted + counters["ring_dropped", "file_open"] + in_table


def test_a_flood_of_opens_leaves_room_for_exec_and_exit(narrow: Sensor, artifact: Path, tmp_path: Path) -> None:
    pid = _flood(artifact, tmp_path)
    small = narrow.drain().small
    ours = small[small["root_tgid"] == pid]
    [program] = [records.texts(r) for r in ours[ours["kind"] == 1]]
    assert program[4] == b"true\0after the flood\0"
    assert int((ours["kind"] == 3).sum()) == 2


def test_records_stay_until_they_are_committed(narrow: Sensor, artifact: Path, tmp_path: Path) -> None:
    _flood(artifact, tmp_path)
    first = narrow.drain()
    dropped = narrow.counters()["ring_dropped", "file_open"]
    _flood(artifact, tmp_path)
    assert 16 not in narrow.drain().small["kind"], "there was no room, as nothing was committed"
    assert narrow.counters()["ring_dropped", "file_open"] > dropped + _OPENS - 100
    narrow.commit(first.positions)
    pid = _flood(artifact, tmp_path)
    small = narrow.drain().small
    assert int((small["root_tgid"] == pid).sum()) > 20


def test_numbers_of_a_ring_have_no_gap_when_nothing_was_lost(host: Host, artifact: Path, tmp_path: Path) -> None:
    host.run(_PROGRAM, str(artifact), str(tmp_path))
    everything = np.concatenate([p[["ring", "cpu", "number"]].astype([("ring", "u1"), ("cpu", "u2"), ("number", "u8")])
                                 for p in host.all_records()])
    for ring in (Ring.CONTROL, Ring.EVENTS):
        for cpu in np.unique(everything["cpu"]):
            numbers = np.sort(everything["number"][(everything["ring"] == ring) & (everything["cpu"] == cpu)])
            assert (np.diff(numbers) == 1).all()


def test_records_are_ordered_by_time(host: Host, artifact: Path, tmp_path: Path) -> None:
    process = host.start(_PROGRAM, str(artifact), str(tmp_path))
    while process.poll() is None:
        host.sensor.wait(0.02)
        drained = host.sensor.drain()
        host.sensor.commit(drained.positions)
        assert (np.diff(drained.small["time_ns"].astype(np.int64)) >= 0).all()
    host.pump()


def test_a_name_too_long_to_watch_is_refused_with_the_reason() -> None:
    with pytest.raises(SensorError, match="--watch"):
        Sensor.open(watch=["x" * 64])
