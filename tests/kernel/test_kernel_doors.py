"""Doors: each is optional, and each that is taken is proven by a canary."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from modelward_agent.hints import declaring
from modelward_agent.sensor import Sensor, SensorError, check_host, probing, records
from modelward_agent.sensor.doors import EFFECTS
from modelward_agent.sensor.offers import HOOKS

pytestmark = pytest.mark.kernel


def test_the_canary_proves_every_effect_even_when_the_agent_excludes_itself() -> None:
    sensor = Sensor.open(exclude_pids=[os.getpid()])
    try:
        reports = sensor.prove()
    finally:
        sensor.close()
    assert [r.effect for r in reports] == [e.name for e in EFFECTS]
    assert [r.effect for r in reports if not r.proven] == []


def test_without_a_program_its_effect_is_reported_unseen_and_the_rest_works() -> None:
    sensor = Sensor.open(without=["on_send", "on_tcp_sendmsg", "on_packet", "adopt"])
    try:
        reports = {r.effect: r for r in sensor.prove()}
    finally:
        sensor.close()
    assert reports["answer"].door == "none"
    assert "left out" in reports["answer"].reason
    assert not reports["answer"].proven
    assert reports["adopt"].door == "none"
    assert reports["exec"].door != "none"


def test_without_a_program_that_everything_needs_the_sensor_refuses_and_says_which() -> None:
    with pytest.raises(SensorError, match=r"exec.*left out"):
        Sensor.open(without=["on_exec"])


@pytest.mark.parametrize("without", [(), ("on_send", "on_tcp_sendmsg")], ids=["", "the last door of answers"])
def test_the_object_for_older_kernels_proves_the_same(monkeypatch: pytest.MonkeyPatch, without: tuple[str, ...]) -> None:
    monkeypatch.setattr(records, "OBJECT", records.PLAIN_OBJECT)
    sensor = Sensor.open(without=without)
    try:
        reports = sensor.prove()
    finally:
        sensor.close()
    assert [r.effect for r in reports if not r.proven] == []


def test_every_program_of_the_object_belongs_to_a_door() -> None:
    sensor = Sensor.open()
    programs = set(sensor.programs())
    sensor.close()
    others = {*probing.PROGRAMS, *declaring.PROGRAMS}
    assert others <= programs
    assert programs - others == {program for effect in EFFECTS for door in effect.doors for program in door.programs}


def test_the_host_is_asked_for_each_kind_of_hook() -> None:
    offers = check_host()
    assert [o.effect for o in offers] == [hook for hook, _ in HOOKS.values()]
    offered = {o.effect for o in offers if o.proven}
    assert {"tp_btf/sched_process_exec", "iter/task", "syscall"} <= offered
    assert all(o.reason for o in offers)


def test_without_root_the_refusal_says_so() -> None:
    program = """
import os
from modelward_agent.sensor import Sensor, SensorError
os.seteuid(65534)
try:
    Sensor.open()
except SensorError as e:
    print(e)
"""
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "root" in output.stdout, output.stderr
