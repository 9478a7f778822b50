"""Every program's stack fits the kernels that count most: what loads on a new one must not be refused by an old one."""

from __future__ import annotations

from pathlib import Path

import pytest
from modelward_agent.sensor import records

from tests.unit import bpf_stack


@pytest.mark.parametrize("path", [records.OBJECT, records.PLAIN_OBJECT], ids=lambda path: path.name)
def test_no_chain_of_calls_is_deeper_than_old_kernels_allow(path: Path) -> None:
    found = bpf_stack.functions(path)
    called = {name for function in found.values() for name in function.calls}
    programs = found.keys() - called
    assert {"on_exec", "exit_open", "on_file_map", "on_send"} <= programs
    assert {"open_scope", "tell_from", "find_free_scope"} <= called, "a call of each kind: of one section, of another, by a loop"
    deepest = {name: bpf_stack.deepest(found, name) for name in programs}
    assert not {name: chain for name, chain in deepest.items() if chain[0] > bpf_stack.MOST_BYTES}
    assert max(bpf_stack.longest(found, name) for name in programs) <= bpf_stack.MOST_FRAMES
