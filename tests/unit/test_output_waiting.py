"""How long detections wait for a model to be identified, and what is remembered of those that were left out meanwhile."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from modelward_collector.outputs import delivery
from modelward_collector.outputs.reading import Mark
from modelward_collector.outputs.state import State
from modelward_collector.outputs.unsettled import KEPT_S, MOST, Unsettled
from modelward_collector.outputs.webhook import Answer, Verdict


class FakeDetections:
    """One page, of detections of models that stay unknown while an exception may cover them."""

    def __init__(self, stored_ns: list[int]) -> None:
        self.rows = [row(f"{number:032x}", at) for number, at in enumerate(stored_ns)]

    async def after(self, mark: Mark) -> list[dict[str, Any]]:
        return [row for row in self.rows if (int(row["stored_ns"]), row["detection_id"]) > mark]

    async def excepted(self) -> set[tuple[str, str, str]]:
        return {("shell_in_load", "/usr/bin/dash", "")}

    async def save(self, mark: Mark) -> None:
        pass


class FakeReceiver:
    def __init__(self) -> None:
        self.ids: list[str] = []

    async def post(self, body: bytes, delivery: str) -> Answer:
        self.ids.append(delivery)
        return Answer(Verdict.ACCEPTED, "")

    def renew_secret(self) -> None:
        pass


def row(detection_id: str, stored_ns: int) -> dict[str, Any]:
    return {"detection_id": detection_id, "stored_ns": str(stored_ns), "severity": "high", "rule_name": "shell_in_load",
            "process_executable_path": "/usr/bin/dash", "host_name": "a", "model_instance": "7", "model_id": "",
            "model_digest": "", "silenced_by": ""}


def test_those_stored_before_the_clock_was_set_back_wait_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    receiver, now, looks = FakeReceiver(), [time.monotonic()], [0]
    ahead = time.time_ns() + 3600 * 10**9
    found: Any = FakeDetections([ahead + number for number in range(5)])
    output = delivery.Delivery(found, receiver, State("webhook", "x"), min_severity="low", from_start=True)

    async def sleep(seconds: float) -> None:
        looks[0] += 1
        now[0] += seconds

    monkeypatch.setattr(delivery.payload, "body", lambda row: b"")
    monkeypatch.setattr(delivery.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(delivery.asyncio, "sleep", sleep)

    async def all_told() -> None:
        while await output._some():
            pass

    asyncio.run(all_told())
    assert receiver.ids == [row["detection_id"] for row in found.rows]
    assert looks[0] <= delivery.HOLD_S / delivery.HOLD_LOOK_S + 1


def test_what_is_not_settled_is_bounded_in_number_and_age(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("modelward_collector.outputs.unsettled.time.monotonic", lambda: now[0])
    unsettled = Unsettled()
    for number in range(MOST + 5):
        unsettled.add(str(number))
    assert unsettled.ids() == [str(number) for number in range(5, MOST + 5)]
    unsettled.settle("7")
    assert "7" not in unsettled.ids()
    now[0] += KEPT_S + 1
    unsettled.add("new")
    assert unsettled.ids() == ["new"]
