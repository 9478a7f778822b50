"""The test of the alarm: one record of a hook that nothing else provoked."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from modelward_agent.sensor import Sensor, records
from modelward_agent.sensor.constants import Ring
from modelward_proto.kinds import Kind

pytestmark = pytest.mark.kernel


def test_the_test_of_the_alarm_is_one_record_and_nothing_else() -> None:
    sensor = Sensor.open(exclude_pids=[os.getpid()])
    try:
        sensor.drain()
        sensor.canary("a1b2-c3")
        small = sensor.drain().small
    finally:
        sensor.close()
    [record] = small[small["kind"] == Kind.HOST_CANARY]
    assert records.texts(record)[4] == b"modelward-canary\0a1b2-c3\0"
    assert record["ring"] == Ring.CONTROL
    assert not (small["tgid"] == record["tgid"])[small["kind"] != Kind.HOST_CANARY].any()


def test_the_test_of_the_alarm_works_for_an_agent_in_a_pid_namespace_of_its_own() -> None:
    program = """
import os
from modelward_agent.sensor import Sensor
sensor = Sensor.open(exclude_pids=[os.getpid()])
sensor.drain()
sensor.canary("x1")
small = sensor.drain().small
print(os.getpid(), (small["kind"] == 64).sum())
sensor.close()
"""
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "1 1\n", done.stderr


def test_a_strange_id_of_a_test_is_refused() -> None:
    sensor = Sensor.open()
    try:
        for id in ("", "x" * 129, "a b", "a\nb", "-x"):
            with pytest.raises(ValueError, match="letters, digits"):
                sensor.canary(id)
    finally:
        sensor.close()
