"""Commands that come down the stream: bounded, spaced out, answered at once and never twice."""

from __future__ import annotations

import pytest
from modelward_agent.commands import ANSWER_S, EVERY_S, MAX_WAITING, Commands
from modelward_proto.v1 import stream_pb2 as pb


class Drainer:
    """What the commands ask of the drainer, with a clock that the test sets."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.beats = 0
        self.now = 100.0
        self.commands = Commands(self.asked.append, self._beat, lambda: self.now)

    def _beat(self) -> None:
        self.beats += 1

    def results(self) -> list[tuple[str, str]]:
        return [(result.id, result.error) for result in self.commands.results()]


@pytest.fixture
def drainer() -> Drainer:
    return Drainer()


def alert(id: str) -> pb.Command:
    return pb.Command(id=id, test_alert=pb.TestAlert())


def test_test_alert_goes_to_the_drainer_and_its_result_into_the_next_heartbeat(drainer: Drainer) -> None:
    drainer.commands.take(alert("a1"))
    assert (drainer.asked, drainer.beats) == (["a1"], 0)
    drainer.commands.done("a1", "")
    assert drainer.beats == 1
    assert drainer.results() == [("a1", "")]
    assert drainer.results() == []


def test_unknown_command_is_answered_with_an_error(drainer: Drainer) -> None:
    drainer.commands.take(pb.Command(id="later"))
    assert drainer.asked == []
    ((id, error),) = drainer.results()
    assert id == "later"
    assert "upgrade" in error


@pytest.mark.parametrize("id", ["", "a" * 65, "a b", "a\n", "../a", "\u0661"])
def test_command_without_a_usable_id_is_ignored(drainer: Drainer, id: str) -> None:
    drainer.commands.take(alert(id))
    drainer.commands.take(pb.Command(id=id))
    assert (drainer.asked, drainer.results()) == ([], [])


def test_many_commands_are_spaced_out_and_the_rest_refused(drainer: Drainer) -> None:
    for number in range(MAX_WAITING + 5):
        drainer.commands.take(alert(f"a{number}"))
        drainer.commands.take(alert(f"a{number}"))
    assert drainer.asked == ["a0"]
    refused = drainer.results()
    # The first is on its way, ten wait; each that found no room came twice.
    assert [id for id, _ in refused] == [f"a{number}" for number in range(MAX_WAITING + 1, MAX_WAITING + 5) for _ in range(2)]
    assert all("later" in error for _, error in refused)
    drainer.now += EVERY_S - 0.1
    drainer.commands.poll()
    assert drainer.asked == ["a0"]
    for _ in range(MAX_WAITING):
        drainer.now += EVERY_S
        drainer.commands.poll()
    assert drainer.asked == [f"a{number}" for number in range(MAX_WAITING + 1)]


def test_drainer_that_does_not_answer_is_told_of_and_its_late_answer_ignored(drainer: Drainer) -> None:
    drainer.commands.take(alert("a1"))
    drainer.now += ANSWER_S + 1
    drainer.commands.poll()
    ((id, error),) = drainer.results()
    assert (id, "did not answer" in error) == ("a1", True)
    drainer.commands.done("a1", "")
    drainer.commands.done("never asked", "")
    assert drainer.results() == []


def test_result_of_a_heartbeat_that_a_broken_stream_may_have_lost_is_told_again(drainer: Drainer) -> None:
    drainer.commands.take(alert("a1"))
    drainer.commands.done("a1", "no hook\x1b[2J is attached: " + "x" * 1000)
    first = drainer.results()
    assert "\x1b" not in first[0][1]
    assert len(first[0][1]) <= 500
    drainer.commands.untold()
    assert drainer.results() == first
    assert drainer.results() == []
