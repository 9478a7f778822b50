"""When hooks are attached, when they are not, and that a proof attaches none while they must not be."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from modelward_agent import proving, watching
from modelward_agent.drainer import Source
from modelward_agent.no_sensor import NoSensor
from modelward_agent.proving import Proof
from modelward_agent.sensor import records
from modelward_agent.sensor.errors import SensorError
from modelward_agent.spool.batch import Layout
from modelward_agent.state_folder import DEGRADED, PAUSED, WATCHING, Pause, StateFolder
from modelward_agent.watching import Watch

pytestmark = pytest.mark.skipif(not records.OBJECT.exists(), reason="needs the kernel object: run 'make bpf'")


class Host:
    """A kernel that refuses while ``refusal`` is set, and a drainer that notes what it is given."""

    def __init__(self, state: Path, crash_limit: int = 3) -> None:
        self.refusal = ""
        self.opened: list[NoSensor] = []
        self.given: list[tuple[Source, str, str]] = []
        self.folder = StateFolder(state)
        self.layout = Layout(records.SMALL, records.LARGE)
        self.watch = Watch(
            self.folder, self.layout, self.open, Proof(("true",)), crash_limit=crash_limit, pinned=state / "pins")

    def open(self) -> Source:
        if self.refusal:
            raise SensorError(self.refusal)
        self.opened.append(NoSensor(self.layout, "stands for a sensor"))
        return self.opened[-1]

    def replace_source(self, source: Source, mode: str, reason: str) -> None:
        self.given.append((source, mode, reason))

    def look(self) -> str:
        self.watch._look_at = 0.0
        self.watch.look(self)
        standing = self.folder.standing()
        return standing.mode if standing else ""


@pytest.fixture(autouse=True)
def _no_check_outlives_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, "AGAIN_AFTER_S", 0.0)


def test_pause_and_resume_change_the_source_once_each(tmp_path: Path) -> None:
    host = Host(tmp_path)
    assert host.watch.begin(0) is host.opened[0]
    assert host.look() == WATCHING
    host.folder.pause(Pause("why", "who", 0.0))
    assert [host.look(), host.look()] == [PAUSED, PAUSED]
    ((source, mode, reason),) = host.given
    assert (mode, reason) == (PAUSED, "paused by who: why")
    assert {door.door for door in source.doors()} == {"none"}
    with pytest.raises(SensorError, match="paused by who"):
        source.canary("1")
    host.folder.pause(Pause("another reason", "who", 0.0))
    host.look()
    assert host.given[-1][2] == "paused by who: another reason"
    host.folder.resume()
    assert [host.look(), host.look()] == [WATCHING, WATCHING]
    assert host.given[-1] == (host.opened[1], WATCHING, "")
    assert len(host.opened) == 2


def test_refused_hooks_are_tried_again_each_hour_and_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(tmp_path)
    host.refusal = "the kernel refuses on_exec\nand says much more"
    host.watch.begin(0)
    assert (host.watch.mode, host.watch.reason) == (DEGRADED, "the kernel refuses on_exec")
    host.refusal = ""
    assert host.look() == DEGRADED
    host.watch.hang_up()
    assert host.look() == WATCHING
    host.refusal = "again"
    host.folder.pause(Pause("", "", 0.0))
    host.look()
    host.folder.resume()
    assert host.look() == DEGRADED
    host.refusal = ""
    now = time.monotonic()
    monkeypatch.setattr(watching.time, "monotonic", lambda: now + watching.RETRY_S + 1)
    assert host.look() == WATCHING


@pytest.mark.parametrize(("crashes", "limit", "mode"), [(2, 3, WATCHING), (3, 3, DEGRADED), (9, 0, WATCHING), (1, 1, DEGRADED)])
def test_hooks_stay_off_after_too_many_crashes(tmp_path: Path, crashes: int, limit: int, mode: str) -> None:
    host = Host(tmp_path, limit)
    host.watch.begin(crashes)
    assert host.watch.mode == mode
    assert len(host.opened) == (mode == WATCHING)


def test_pause_wins_over_crashes(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.folder.pause(Pause("", "", 0.0))
    host.watch.begin(5)
    assert host.watch.mode == PAUSED


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_no_check_is_begun_after_the_proof_was_stopped(tmp_path: Path) -> None:
    """It would attach hooks of its own while the agent is paused."""
    runs = tmp_path / "runs"
    proof = Proof(("sh", "-c", f"echo >> {runs}"))

    def failed() -> bool:
        proof.poll()
        return proof._process is None

    proof.start()
    until(failed)
    proof.stop()
    for _ in range(10):
        proof.poll()
    assert proof._process is None
    assert runs.read_text() == "\n"
    proof.start()
    until(failed)
    proof.stop()
    assert runs.read_text() == "\n\n"


def test_proof_of_new_hooks_says_nothing_of_the_old_ones(tmp_path: Path) -> None:
    said = tmp_path / "said"
    said.write_text(json.dumps({"doors": [{"effect": "exec", "proven": True}, {"effect": "fork", "proven": False}]}))
    proof = Proof(("cat", str(said)))

    def judged() -> bool:
        proof.poll()
        return bool(proof.problem)

    proof.start()
    until(judged)
    assert "fork" in proof.problem
    assert proof._proven == {"exec"}
    proof.start()
    assert (proof._proven, proof.problem) == (set(), "")
    proof.stop()
