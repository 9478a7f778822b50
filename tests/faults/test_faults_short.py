"""Each fault of ``make faults`` once, in short: nothing is lost, doubled or left unsaid."""

from __future__ import annotations

import random

import pytest

from tests.faults.cases import clocks_wrong, flood, full_disks, killing, outage, twins, wiped, wire
from tests.faults.outcome import Outcome
from tests.faults.site import site

pytestmark = pytest.mark.kernel


def holds(outcome: Outcome) -> None:
    assert not outcome.wrong, "\n".join([f"{outcome.fault} ({outcome.how}):", *outcome.wrong])


def test_kill_of_drainer_sender_receiver_and_store_loses_and_doubles_nothing() -> None:
    with site() as it:
        it.start_collector()
        it.start_agent()
        for _, outcome in killing.kill_rounds(it, random.Random(), len(killing.VICTIMS), 8_000):
            holds(outcome)


def test_a_ring_flood_is_counted_exactly_and_told() -> None:
    holds(flood.ring_flood(90_000))


def test_a_full_disk_of_the_agent_costs_only_what_is_counted() -> None:
    holds(full_disks.agent_disk(100_000))


def test_a_full_disk_of_the_collector_costs_nothing() -> None:
    holds(full_disks.collector_disk(8_000))


def test_an_hour_without_a_collector_is_delivered_late_behind_what_is_live() -> None:
    holds(outage.an_hour(40_000, steps=4))


@pytest.mark.parametrize("side", ["agent", "collector"])
def test_a_clock_that_is_set_while_events_flow_costs_nothing(side: str) -> None:
    holds(clocks_wrong.stepping_clock(side, 6_000))


def test_streams_that_are_cut_in_mid_message_lose_and_double_nothing() -> None:
    holds(wire.cut_streams(random.Random(), 8_000, 6))


def test_a_peer_that_repeats_reorders_and_halves_batches_is_stored_once() -> None:
    holds(wire.hostile_peer(random.Random(), 40))


def test_copies_of_one_state_folder_are_said_and_lose_only_what_is_counted() -> None:
    holds(twins.cloned_state(8))


def test_two_agents_of_one_name_are_said_and_lose_nothing() -> None:
    holds(twins.one_name())


def test_a_wiped_state_folder_leaves_what_the_rings_hold() -> None:
    holds(wiped.state_folder(6_000))


def test_a_wiped_data_folder_loses_only_what_it_held() -> None:
    holds(wiped.data_folder(6_000))
