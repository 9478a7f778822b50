"""A batch as bytes: what goes in comes out, and no damage goes unnoticed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modelward_agent.sensor.progress import Progress
from modelward_agent.spool.batch import CorruptBatch, Layout, SpooledBatch, count_kinds, decode, encode

from tests.unit.spooling import LAYOUT, NOTHING, record_class, records

texts = st.text(st.characters(codec="utf-8"), max_size=20)


@settings(max_examples=60, deadline=None)
@given(
    small=st.integers(0, 40), large=st.integers(0, 3), seed=st.integers(0, 2**32 - 1), late=st.booleans(),
    losses=st.lists(st.tuples(texts, texts, st.integers(1, 2**62)), max_size=4),
    positions=st.dictionaries(st.integers(0, 3), st.integers(0, 2**63), max_size=4),
    times=st.tuples(st.integers(0, 2**63 - 1), st.integers(-(2**62), 2**62)),
)
def test_any_records_survive_encode_and_decode(
    small: int, large: int, seed: int, late: bool, losses: list[tuple[str, str, int]], positions: dict[int, int],
    times: tuple[int, int],
) -> None:
    noise = np.random.default_rng(seed)
    arrays = [
        np.frombuffer(noise.bytes(n * dtype.itemsize), dtype) for n, dtype in ((small, LAYOUT.small), (large, LAYOUT.large))
    ]
    batch = SpooledBatch(
        epoch=b"e" * 16, number=seed, batch_time_ns=times[0], wall_offset_ns=times[1], small=arrays[0], large=arrays[1],
        losses=tuple(losses), late=late, checksum=0, boot_id="b", kinds={"x": 1},
        progress=Progress("r", seed, positions, {"exec": seed}, {(hop, kind): n for hop, kind, n in losses}),
    )
    buffers, checksum = encode(batch, LAYOUT)
    again = decode(b"".join(bytes(b) for b in buffers), LAYOUT, b"e" * 16, seed)
    assert again.small.tobytes() == arrays[0].tobytes()
    assert again.large.tobytes() == arrays[1].tobytes()
    assert (again.losses, again.late, again.progress) == (tuple(losses), late, batch.progress)
    assert (again.batch_time_ns, again.wall_offset_ns) == times
    assert again.checksum == checksum


@settings(max_examples=150, deadline=None)
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_no_flipped_bit_goes_unnoticed(position: float, bit: int) -> None:
    raw = bytearray(_encoded())
    raw[int(position * len(raw))] ^= 1 << bit
    with pytest.raises(CorruptBatch):
        decode(bytes(raw), LAYOUT, b"e" * 16, 5)


@settings(max_examples=100, deadline=None)
@given(kept=st.floats(0, 1, exclude_max=True))
def test_no_torn_write_goes_unnoticed(kept: float) -> None:
    raw = _encoded()
    with pytest.raises(CorruptBatch):
        decode(raw[: int(kept * len(raw))], LAYOUT, b"e" * 16, 5)


def _encoded() -> bytes:
    batch = SpooledBatch(b"e" * 16, 5, 1, 2, records(20), NOTHING, (), False, 0, kinds={"file_open": 20})
    return b"".join(bytes(b) for b in encode(batch, LAYOUT)[0])


def test_records_of_another_layout_are_refused_not_misread() -> None:
    with pytest.raises(CorruptBatch, match="layout of another agent version") as caught:
        decode(_encoded(), Layout(record_class(344), LAYOUT.large), b"e" * 16, 5)
    assert caught.value.kinds == {"file_open": 20}


def test_repeats_count_as_many() -> None:
    assert count_kinds(records(2, count=5), NOTHING) == {"file_open": 10}
