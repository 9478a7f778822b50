"""Whatever records hold, enrichment gives valid rows: one for each record and loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modelward_agent.enrich.enricher import Enricher
from modelward_agent.sensor import records
from modelward_agent.spool.batch import SpooledBatch
from modelward_proto.fields import WIRE_SCHEMA
from modelward_proto.kinds import Kind
from modelward_proto.text import is_inert

_KINDS = st.sampled_from([*map(int, Kind), 0, 7, 65535])
_I64 = st.integers(-(2**63), 2**63 - 1)


@pytest.fixture(scope="module")
def enricher(tmp_path_factory: pytest.TempPathFactory) -> Enricher:
    """One for all batches, so that what one leaves behind meets the next."""
    return Enricher(boot_id="fuzz", proc=tmp_path_factory.mktemp("proc"))


@given(
    seed=st.integers(0, 2**32 - 1),
    kinds=st.lists(_KINDS, max_size=12),
    large=st.lists(_KINDS, max_size=2),
    few=st.booleans(),
    losses=st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5), st.integers(-5, 2**70)), max_size=2),
    batch_time=_I64,
    offset=_I64,
)
@settings(max_examples=150, deadline=None)
def test_random_bytes_in_records_raise_or_make_invalid_rows(
    enricher: Enricher,
    seed: int,
    kinds: list[int],
    large: list[int],
    few: bool,
    losses: list[tuple[str, str, int]],
    batch_time: int,
    offset: int,
) -> None:
    random = np.random.default_rng(seed)

    def made(of: list[int], dtype: np.dtype[np.void]) -> np.ndarray:  # type: ignore[type-arg]
        found = np.frombuffer(random.bytes(len(of) * dtype.itemsize), dtype).copy()
        found["kind"] = of
        if few:
            # Small numbers meet each other: the same processes, groups and instances again and again.
            for name in (
                "tgid",
                "start_ns",
                "parent_tgid",
                "parent_start_ns",
                "root_tgid",
                "root_start_ns",
                "group",
                "instance",
            ):
                found[name] = random.integers(0, 3, len(of))
        return found

    batch = SpooledBatch(
        epoch=b"",
        number=1,
        batch_time_ns=batch_time,
        wall_offset_ns=offset,
        small=made(kinds, records.SMALL),
        large=made(large, records.LARGE),
        losses=tuple(losses),
        late=False,
        checksum=0,
        boot_id="fuzz",
    )
    rows = enricher.enrich(batch)
    rows.validate(full=True)
    enricher.wanted()
    assert rows.schema == WIRE_SCHEMA
    assert rows.num_rows == len(kinds) + len(large) + len(losses)
    for name in ("file_path", "process_executable_path", "process_working_directory", "model_id"):
        assert all(is_inert(text) for text in rows.column(name).to_pylist())


def test_lengths_that_leave_the_record_read_the_next_one(enricher: Enricher) -> None:
    made = np.zeros(2, records.SMALL)
    made["kind"] = int(Kind.FILE_OPEN)
    made["seg"][0] = (65535, 65535, 0, 0, 65535)
    made.view(np.uint8).reshape(2, -1)[0, -160:] = ord("a")
    made.view(np.uint8).reshape(2, -1)[1, -160:] = ord("b")
    batch = SpooledBatch(
        epoch=b"",
        number=1,
        batch_time_ns=0,
        wall_offset_ns=0,
        small=made,
        large=np.zeros(0, records.LARGE),
        losses=(),
        late=False,
        checksum=0,
        boot_id="fuzz",
    )
    first, second = enricher.enrich(batch).to_pylist()
    assert first["file_path"] == "a" * 160
    assert first["truncated"]
    assert not second["truncated"]


def test_the_same_batch_gives_other_rows_to_another_agent(tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    made = np.frombuffer(random.bytes(64 * records.SMALL.itemsize), records.SMALL).copy()
    made["kind"] = random.choice([1, 2, 3, 16, 32, 48], 64)
    made["tgid"], made["start_ns"] = random.integers(1, 5, 64), 1
    batch = SpooledBatch(
        epoch=b"",
        number=1,
        batch_time_ns=0,
        wall_offset_ns=0,
        small=made,
        large=np.zeros(0, records.LARGE),
        losses=(),
        late=False,
        checksum=0,
        boot_id="fuzz",
    )
    first, second = (Enricher(boot_id="fuzz", proc=tmp_path).enrich(batch) for _ in range(2))
    assert first.equals(second)
