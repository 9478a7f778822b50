"""What 'modelward-agent check' says of probes, and the libraries that it proves them with."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
from modelward_agent import check
from modelward_agent.probes.elf import Elf
from modelward_agent.probes.elf_tables import Source
from modelward_agent.probes.table import FAMILIES, Family
from modelward_agent.sensor import probe_canary, uprobes
from modelward_agent.sensor.doors import DoorReport
from modelward_agent.sensor.probe_canary import library


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_libraries_of_the_check_can_be_mapped_called_and_looked_into(tmp_path: Path, family: Family) -> None:
    names = [function.alternatives[0] for function in family.functions]
    path = tmp_path / f"{family.stems[0]}.so"
    path.write_bytes(library(names))
    loaded = ctypes.CDLL(str(path))
    assert [getattr(loaded, name)(None) for name in names] == [0] * len(names)
    offsets = Elf(Source(path.read_bytes())).functions(names)
    assert len(set(offsets.values())) == len(offsets) == len(names)


@pytest.mark.parametrize(("many", "refused", "returned", "expected"), [
    (True, "", True, "uprobe_multi, many functions with one link; calls and returns"),
    (False, "", True, "perf events, one for each function; calls and returns"),
    (True, "seccomp", False, "uprobe_multi, many functions with one link; returns not: seccomp"),
    (True, "", False, "uprobe_multi, many functions with one link; calls; no return was heard"),
])
def test_how_probes_are_attached_is_said(
    monkeypatch: pytest.MonkeyPatch, many: bool, refused: str, returned: bool, expected: str
) -> None:
    monkeypatch.setattr(uprobes, "for_many", lambda: many)
    monkeypatch.setattr(uprobes, "returns_refused", lambda: refused)
    found = DoorReport("probe:torch", "uprobe: 3 functions of libtorch_cpu.so", "first choice", True, "")
    told = probe_canary._told(found, returned)
    assert (told.door, told.proven, told.reason) == (expected, True, "first choice")


def test_what_was_not_found_or_refused_is_none() -> None:
    refused = probe_canary._told(DoorReport("probe:cuda", "none", "no such system call", False, ""), False)
    missed = probe_canary._told(DoorReport("probe:cuda", "not mapped", "no tracked process has such a library", False, ""), False)
    assert (refused.door, refused.reason) == ("none", "no such system call")
    assert (missed.door, missed.proven, missed.reason) == ("none", False, "a library of the check was not found")


def test_probes_have_a_section_and_leave_the_verdict_of_the_effects() -> None:
    doors = [DoorReport("exec", "tp_btf/sched_process_exec", "first choice", True, "")]
    probed = [DoorReport("probe:torch", "uprobe_multi", "first choice", True, ""),
              DoorReport("probe:cuda", "none", "refused", False, "")]
    shown = check._report((), doors, probed)
    assert shown.index("How each effect") < shown.index("How functions of frameworks") < shown.index("probe:cuda   NOT SEEN")
    verdict = check._verdict([], probed)
    assert "Every effect is watched" in verdict
    assert "No probes: probe:cuda." in verdict
