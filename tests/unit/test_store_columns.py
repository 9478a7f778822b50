"""What the store writes for a group of rows, compared column by column with what it was given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from modelward_collector.data_folder import DataFolder
from modelward_collector.ingest.validate import Source, check
from modelward_collector.store import engine
from modelward_collector.store.ddl.migrations import migrate
from modelward_collector.store.encode import without_zeros
from modelward_collector.store.engine import insert_table
from modelward_proto.fields import STORED

from tests.batches import envelope, events, from_rows, now_ns

TIMES = frozenset(f.column for f in STORED if f.type == "time")


def stored(folder: Path, table: pa.Table) -> list[dict[str, Any]]:
    place = DataFolder(folder)
    place.create()
    lane = engine.Lane("test", place.engine)
    try:
        lane.call(lambda c: migrate(c, 30))
        lane.call(lambda c: insert_table(c, "events_raw", without_zeros(table), "token", place.scratch))
        names = ", ".join(f"toUnixTimestamp64Nano(`{c}`) AS `{c}`" if c in TIMES else f"`{c}`" for c in table.column_names)
        sql = (f"SELECT {names} FROM modelward.events_raw ORDER BY events_raw.row "
               "SETTINGS output_format_json_quote_64bit_integers = 0")
        lines = lane.call(lambda c: engine.execute(c, sql, format="JSONEachRow"))
        assert not list(place.scratch.iterdir())
    finally:
        lane.close()
    return [json.loads(line) for line in lines.splitlines()]


def given(table: pa.Table) -> list[dict[str, Any]]:
    whole = [table.column(n).cast(pa.int64()) if n in TIMES else table.column(n) for n in table.column_names]
    found: list[dict[str, Any]] = pa.table(whole, names=table.column_names).to_pylist()
    return found


@pytest.mark.parametrize("batch", [
    pytest.param(events(300), id="of many kinds"),
    pytest.param(from_rows([{"time": now_ns(), "event.name": "exec"}]), id="with nothing but a name"),
    pytest.param(from_rows([{"time": now_ns()}, {"time": now_ns(), "process.exit.code": -1, "lifecycle.origin.age_s": 0.5,
                             "truncated": True, "file.path": "/a"}]), id="with a value in the last row alone"),
])
def test_columns_that_are_not_written_read_back_as_what_they_held(tmp_path: Path, batch: pa.RecordBatch) -> None:
    table = check(envelope(1, batch), Source("gpu-1", b"A" * 16, 30), now_ns()).events
    assert len(without_zeros(table).column_names) < len(STORED)
    assert stored(tmp_path, table) == given(table)


def test_a_slice_is_not_taken_for_zeros_by_what_lies_beside_it() -> None:
    table = pa.table({"text": ["x", "", ""], "number": [1, 0, 0], "flag": [True, False, False]})
    assert without_zeros(table.slice(1)).column_names == []
    assert without_zeros(table.slice(0, 1)).column_names == ["text", "number", "flag"]
    assert without_zeros(pa.concat_tables([table.slice(1), table.slice(0, 1)])).column_names == ["text", "number", "flag"]
