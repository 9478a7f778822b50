"""The record layout is that of the header file, and the constants are its numbers."""

from __future__ import annotations

import re
import subprocess
from enum import IntEnum, IntFlag
from pathlib import Path

import numpy as np
import pytest
from modelward_agent.sensor import SensorError, constants, records
from modelward_agent.sensor.btf import Btf
from modelward_proto.kinds import Kind

_HEADER = Path(__file__).parents[2] / "agent/bpf/events.h"
_STATE = _HEADER.with_name("state.h")


@pytest.fixture(autouse=True)
def _object() -> None:
    if not records.OBJECT.exists():
        pytest.skip("needs the kernel object: run 'make bpf'")


def test_sizes_are_those_of_the_header_file() -> None:
    text = _HEADER.read_text()
    size = {n: int(v) for n, v in re.findall(r"#define MW_(\w+_SIZE)\s+(\d+)", text)}
    assert records.SMALL.itemsize == size["SMALL_SIZE"]
    assert records.LARGE.itemsize == size["LARGE_SIZE"]
    assert records.SMALL.fields is not None
    assert records.SMALL.fields["text"][1] == size["HEADER_SIZE"]


@pytest.mark.parametrize("struct", ["mw_small", "mw_large"])
def test_offsets_are_what_the_compiler_says(struct: str, tmp_path: Path) -> None:
    members = {
        "number": "h.number", "count": "h.count", "kind": "h.kind", "ring": "h.ring", "outcome": "h.outcome",
        "inode": "h.file.inode", "access": "h.file.access", "address": "h.net.address", "transport": "h.net.transport",
        "child_tid": "h.fork.child_tid", "exit_signal": "h.exit.signal", "artifact_device": "h.lifecycle.device",
        "from_phase": "h.lifecycle.from", "trigger": "h.lifecycle.trigger", "seg": "h.seg", "text": "text",
    }
    lines = "".join(f'printf("{n} %zu\\n", __builtin_offsetof(struct {struct}, {m}));' for n, m in members.items())
    source = tmp_path / "offsets.c"
    source.write_text(f'#include <stdio.h>\n#include "{_HEADER}"\nint main(void) {{ {lines} return 0; }}')
    subprocess.run(["cc", "-o", tmp_path / "offsets", source], check=True)
    output = subprocess.run([tmp_path / "offsets"], check=True, capture_output=True, text=True).stdout
    expected = {name: int(offset) for name, offset in (line.split() for line in output.splitlines())}
    fields = records.dtype(struct).fields
    assert fields is not None
    assert {name: fields[name][1] for name in expected} == expected


def test_members_of_different_kinds_overlap_and_texts_are_bytes() -> None:
    record = np.zeros(1, records.SMALL)
    record["exit_code"] = -1
    assert record["exit_code"].dtype == np.int32
    assert record["address"].shape == (1, 16)
    assert record["address"][0, :4].tolist() == [255] * 4
    assert record["seg"].shape == (1, 5)
    assert record["text"].dtype == np.dtype("V160")


def test_texts_of_a_record_are_cut_by_their_lengths() -> None:
    record = np.zeros(1, records.SMALL)
    record["seg"][0] = [5, 3, 0, 0, 2]
    record["text"] = np.void(b"/a\n/bxyz\0\0".ljust(160, b"?"))
    assert records.texts(record[0]) == [b"/a\n/b", b"xyz", b"", b"", b"\0\0"]


@pytest.mark.parametrize(("enum", "prefix", "ours"), [
    ("mw_phase", "MW_PHASE_", constants.Phase),
    ("mw_scope", "MW_SCOPE_", constants.Scope),
    ("mw_evidence", "MW_", constants.Evidence),
    ("mw_via", "MW_VIA_", constants.Via),
    ("mw_outcome", "MW_", constants.Outcome),
    ("mw_trigger", "MW_BY_", constants.Trigger),
    ("mw_ring", "MW_RING_", constants.Ring),
    ("mw_segment", "MW_SEG_", constants.Segment),
])
def test_constants_are_the_objects(enum: str, prefix: str, ours: type[IntEnum]) -> None:
    theirs = {name.removeprefix(prefix): number for name, number in records.btf().enum(enum).items()}
    theirs.pop("MAX", None)
    assert {m.name: m.value for m in ours} == theirs


def test_kinds_are_the_objects() -> None:
    theirs = records.btf().enum("mw_kind")
    assert max(Kind) < theirs.pop("MW_KIND_MAX")
    assert {name.removeprefix("MW_"): number for name, number in theirs.items()}.items() <= {k.name: int(k) for k in Kind}.items()


def test_flags_are_the_headers() -> None:
    flags: type[IntFlag] = constants.Flag
    theirs = {n: 1 << int(bit) for n, bit in re.findall(r"#define MW_F_(\w+)\s+\(1u << (\d+)\)", _HEADER.read_text())}
    assert {f.name: f.value for f in flags} == theirs


def test_an_object_that_is_missing_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SensorError, match="make bpf"):
        Btf(tmp_path / "missing.bpf.o")


@pytest.mark.parametrize("content", [b"", b"\x7fELF\x02\x01" + bytes(200), b"not an object" * 100])
def test_an_object_without_types_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.bpf.o").write_bytes(content)
    with pytest.raises(SensorError, match="BTF"):
        Btf(tmp_path / "bad.bpf.o")


def test_records_of_several_rings_keep_the_kernels_layout_when_joined() -> None:
    parts = [np.zeros(3, records.SMALL), np.zeros(2, records.SMALL)]
    parts[0]["time_ns"], parts[1]["inode"] = 7, 9
    assert np.concatenate(parts).dtype != records.SMALL, "numpy keeps the layout by itself now: records.joined can go"
    joined = records.joined(parts, records.SMALL)
    assert joined.dtype == records.SMALL
    assert joined.tobytes() == b"".join(part.tobytes() for part in parts)
