"""Proves doors: a child process provokes each effect, and its record must come out of the rings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelward_agent.sensor.doors import DoorReport

if TYPE_CHECKING:
    from modelward_agent.sensor.sensor import Sensor


def prove(sensor: Sensor) -> list[DoorReport]:
    return sensor.doors()


def check_host() -> list[DoorReport]:
    from modelward_agent.sensor.sensor import Sensor

    sensor = Sensor.open()
    try:
        return sensor.prove()
    finally:
        sensor.close()
