"""From the kernel of a real host to a real receiver: test alerts and detections, while the outputs process is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.demo.stack import Stack
from tests.stack import Whole, running
from tests.webhook_receiver import Receiver, listening, secret_file

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with listening(Receiver()) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def whole(receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODELWARD_COLLECTOR_WEBHOOK_URL", receiver.url)
        patch.setenv("MODELWARD_COLLECTOR_WEBHOOK_SECRET_FILE", str(secret_file(tmp_path_factory.mktemp("secret"))))
        patch.setenv("MODELWARD_AGENT_LABEL", "env=test,team=e2e")
        with running() as everything:
            yield everything


def test_alert(stack: Stack, *more: str) -> dict[str, Any]:
    """The command's own account of a test alert of this host."""
    host = stack.host()
    assert host is not None
    program = Path(sys.executable).parent / "modelward"
    command = [program, "--url", stack.console.url, "test-alert", host["host_name"], "--json", *more]
    until = time.monotonic() + 30
    while True:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        # One after another on a quick machine: a host is tested at most every few seconds.
        if "too many test alerts" not in done.stderr or time.monotonic() > until:
            break
        time.sleep(1)
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode == 0) == found["ok"], done.stderr
    return found


test_alert.__test__ = False  # type: ignore[attr-defined]


def test_a_test_alert_goes_through_every_hop_and_is_one_event_and_one_detection(whole: Whole, receiver: Receiver) -> None:
    found = test_alert(whole.stack)
    assert found["ok"], found
    assert [hop["hop"] for hop in found["hops"]] == [
        "sent to the agent", "done by the agent", "seen in its kernel, and stored", "detection made, and stored",
        "delivered to webhook"]
    [delivered] = [d for d in receiver.taken if d.document["test"] and found["id"] in d.detection["process_command_line"]]
    assert delivered.is_signed()
    assert delivered.detection["rule_name"] == "test_alert"
    assert delivered.detection["host_labels"] == {"env": "test", "team": "e2e"}
    events = whole.console.get("events", process=found["id"], since="1h")
    assert [event["event_name"] for event in events] == ["canary"]


def test_a_test_alert_survives_a_killed_outputs_process(whole: Whole, receiver: Receiver) -> None:
    for process in _outputs(whole):
        os.kill(process, signal.SIGKILL)
    found = test_alert(whole.stack)
    assert found["ok"], found
    assert found["id"] in str([d.body for d in receiver.taken])


def _outputs(whole: Whole) -> list[int]:
    collector = whole.stack.collector
    assert collector is not None
    children = Path(f"/proc/{collector.pid}/task/{collector.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"modelward_collector.outputs" in Path(f"/proc/{pid}/cmdline").read_bytes()]
