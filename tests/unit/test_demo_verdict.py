"""When the demo says yes: all that was expected of a server was detected, and nothing else."""

from __future__ import annotations

from dataclasses import replace

from deploy.demo.console import Detection
from deploy.demo.expect import Expected, compare

SHELL = Expected("shell_in_load", ("load",), ("python3.11", "dash"), "encoder")
LATER = Expected("shell_in_load", ("serve",), ("python3.11", "dash"), "encoder", by_origin=True)
FOUND = Detection(
    id="1", rule="shell_in_load", title="", severity="critical", sentence="", event="exec", phase="load", scope="open",
    origin="load", origin_model="encoder", origin_instance=7, model="encoder", digest="", instance=7, evidence="observed",
    chain="python3.11 > dash", command="", file="", address="", port=0, pid=2, root_pid=1, event_ns=0, judged_ns=0,
)  # fmt: skip


def test_several_detections_of_one_rule_meet_one_expectation() -> None:
    outcome = compare([SHELL], [FOUND, replace(FOUND, id="2", chain="python3.11 > dash > bash")])
    assert outcome.exact
    assert outcome.met == {SHELL: FOUND}


def test_nothing_expected_and_nothing_found_is_exact() -> None:
    assert compare([], []).exact


def test_expected_detection_that_did_not_come_is_missing() -> None:
    assert compare([SHELL], []).missing == (SHELL,)


def test_detection_of_another_rule_is_not_exact() -> None:
    other = replace(FOUND, id="2", rule="reverse_shell")
    assert compare([SHELL], [FOUND, other]).other == (other,)


def test_expected_rule_in_another_phase_is_both_missing_and_unexpected() -> None:
    wrong = replace(FOUND, phase="serve")
    outcome = compare([SHELL], [wrong])
    assert (outcome.missing, outcome.other) == ((SHELL,), (wrong,))


def test_detection_below_another_program_does_not_fit() -> None:
    assert not compare([SHELL], [replace(FOUND, chain="dash > python3.11")]).exact


def test_detection_without_its_model_does_not_fit() -> None:
    assert not compare([SHELL], [replace(FOUND, model="", origin_model="")]).exact


def test_origin_that_must_tie_it_to_the_load_is_asked_for() -> None:
    served = replace(FOUND, phase="serve", model="")
    assert compare([LATER], [served]).exact
    assert not compare([LATER], [replace(served, origin="none", origin_instance=0)]).exact
    assert not compare([LATER], [replace(served, origin_model="another")]).exact
