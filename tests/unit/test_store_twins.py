"""Two agents with one identity are noticed; one agent that restarts, moves or waits is not taken for two."""

from __future__ import annotations

from modelward_collector.store.twins import CLONED, SHARED, Twins


def beats(twins: Twins, *, agent: str = "a", boot: str = "b", up_s: float, now: float, count: int = 3) -> float:
    """Heartbeats, one every 5 s from ``now`` on; the time after the last."""
    for number in range(count):
        twins.hear("h", agent, boot, up_s + 5 * number, now + 5 * number)
    return now + 5 * count


def test_copies_of_one_state_folder_take_turns() -> None:
    twins, now = Twins(), 1000.0
    for turn in range(3):
        beats(twins, up_s=500 + 10 * turn, now=now + 10 * turn, count=1)
        beats(twins, up_s=7000 + 10 * turn, now=now + 10 * turn + 5, count=1)
    assert twins.problem("h", "a", now + 30) == CLONED
    assert twins.problem("h", "a", now + 600) == ""
    assert twins.problem("other", "a", now + 30) == ""


def test_copies_on_machines_that_booted_together_are_told_apart_by_their_boots() -> None:
    twins = Twins()
    for turn in range(6):
        twins.hear("h", "a", f"boot-{turn % 2}", 100 + 5 * turn, 1000 + 5 * turn)
    assert twins.problem("h", "a", 1030) == CLONED


def test_an_agent_that_is_killed_again_and_again_is_one() -> None:
    twins, now = Twins(), 1000.0
    for _ in range(20):
        now = beats(twins, up_s=0.5, now=now)
        assert twins.problem("h", "a", now) == ""


def test_the_last_word_of_a_killed_agent_may_come_after_the_first_of_its_successor() -> None:
    twins = Twins()
    twins.hear("h", "a", "b", 500, 1000)
    twins.hear("h", "a", "b", 0.5, 1004)
    twins.hear("h", "a", "b", 503, 1004.5)
    twins.hear("h", "a", "b", 5.5, 1009)
    twins.hear("h", "a", "b", 10.5, 1014)
    assert twins.problem("h", "a", 1014) == ""


def test_reports_that_waited_for_a_stalled_store_make_no_second_agent() -> None:
    twins = Twins()
    for up_s, now in ((100, 1000), (105, 1025), (125, 1026), (130, 1030), (3000, 3900)):
        twins.hear("h", "a", "b", up_s, now)
    assert twins.problem("h", "a", 3900) == ""


def test_a_new_state_folder_is_not_a_second_agent_and_two_that_go_on_are() -> None:
    twins, now = Twins(), 1000.0
    now = beats(twins, agent="old", up_s=500, now=now)
    now = beats(twins, agent="new", up_s=1, now=now, count=10)
    assert twins.problem("h", "new", now) == twins.problem("h", "old", now) == ""
    for turn in range(4):
        beats(twins, agent="new", up_s=51 + 5 * turn, now=now + 5 * turn, count=1)
        beats(twins, agent="third", up_s=9 + 5 * turn, now=now + 5 * turn + 1, count=1)
    assert twins.problem("h", "new", now + 20) == twins.problem("h", "third", now + 20) == SHARED
