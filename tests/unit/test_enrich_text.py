"""Vectorised texts equal the escape of each text alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from modelward_agent.enrich.columns import closed, seconds, sparse, times
from modelward_agent.enrich.text_columns import clip, strings
from modelward_proto.text import escape, is_inert

_TEXT = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=20).map(str.encode),
    st.sampled_from([b"", b"/usr/lib/a.so", b"\\", b"\n", b"\xe2\x80\xae", "é".encode()]),
)


@given(st.lists(_TEXT, max_size=30), st.integers(0, 7))
def test_a_column_differs_from_the_escape_of_each_text(texts: list[bytes], gap: int) -> None:
    flat = np.frombuffer(b"".join(text + b"\xaa" * gap for text in texts) + b"\0", np.uint8)
    lengths = np.array([len(text) for text in texts], np.int64)
    starts = np.concatenate(([0], np.cumsum(lengths + gap)[:-1])).astype(np.int64) if texts else lengths
    column = strings(flat, starts, lengths)
    column.validate(full=True)
    assert column.to_pylist() == [escape(text) for text in texts]


def test_texts_larger_than_a_chunk_are_mixed_up() -> None:
    texts = [b"%06d/" % number + b"x" * (number % 4000) + (b"\xff" if number % 7 == 0 else b"") for number in range(2000)]
    flat = np.frombuffer(b"".join(texts), np.uint8)
    lengths = np.array([len(text) for text in texts], np.int64)
    starts = np.cumsum(lengths) - lengths
    order = np.random.default_rng(5).permutation(2000)
    column = strings(flat, starts[order], lengths[order])
    column.validate(full=True)
    assert column.to_pylist() == [escape(texts[number]) for number in order]


def test_a_number_outside_a_closed_set_is_not_its_first_value() -> None:
    column = closed("lifecycle.phase", np.array([2, 6, 255], np.uint8))
    assert column.to_pylist() == ["load", "unknown", "unknown"]
    column.validate(full=True)


def test_texts_of_few_rows_stand_at_others() -> None:
    assert sparse(4, {2: "c", 0: "a"}).to_pylist() == ["a", "", "c", ""]


def test_an_absurd_time_wraps_around() -> None:
    boot = np.array([0, 5, 2**63 - 1, 2**64 - 1], np.uint64)
    assert times(boot, 10).tolist() == [10, 15, 2**63 - 1, 2**63 - 1]
    assert times(boot, -10).tolist() == [0, 0, 2**63 - 11, 2**63 - 11]
    assert times(boot, 2**70).tolist() == [2**63 - 1] * 4
    pa.array(times(boot, -(2**70)))


def test_a_time_before_another_gives_a_negative_age() -> None:
    assert seconds(np.array([3_000_000_000], np.uint64), np.array([2**64 - 1], np.uint64)).tolist() == [0.0]


@given(st.binary(max_size=60), st.integers(8, 40))
def test_a_clipped_text_is_too_long_or_holds_half_an_escape(raw: bytes, most: int) -> None:
    text = escape(raw)
    clipped = clip(text, most)
    assert len(clipped) <= most
    assert is_inert(clipped)
    assert clipped == text or clipped.count("…") == text.count("…") + 1 or "…" in text
