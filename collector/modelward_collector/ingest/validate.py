"""Checks a batch and brings it to the columns that this version stores. Everything in it is hostile input.

A batch that breaks a rule here is quarantined as a whole: polars panics on bad UTF-8 and the engine passes it on, so nothing
of it goes further.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from modelward_proto.field import Field, arrow_schema
from modelward_proto.fields import BINDING_FIELDS, EVENT_FIELDS, EVENT_NAMES, ROW_FIELDS, SCHEMA_MIN, SCHEMA_VERSION, STORED, Kind
from modelward_proto.v1.stream_pb2 import Batch

from modelward_collector.ingest.payload import PayloadError, decoded_bytes

MAX_PAYLOAD_BYTES = 48 << 20
MAX_DECODED_BYTES = 48 << 20
MAX_STORED_BYTES = 56 << 20
"""With the columns that are added here. The engine needs some 3.5 times as much to insert them, and has 286 MiB: a batch that it
can never insert would be tried for ever, and no other with it. An agent's largest batch takes less than 44 MiB."""
MAX_ROWS = 131_072
MAX_TEXT_BYTES = 65_536
MAX_COUNT = 1 << 40
MAX_OTHER_VALUES = 32

DAY_NS = 86_400 * 10**9
AHEAD_NS = DAY_NS
"""How far an agent's clock may be ahead of ours."""

EARLIEST_NS = 946_684_800 * 10**9
"""2000-01-01: a clock before it was never set."""

STORED_SCHEMA = arrow_schema(STORED)
BINDING_COLUMNS = [f.column for f in BINDING_FIELDS]

_HIDDEN = r"[\p{Cc}\p{Cf}\p{Co}\p{Zl}\p{Zp}]"


@dataclass(frozen=True, slots=True)
class Source:
    """Whose batch it is: from the certificate and Hello, never from the payload."""

    host: str
    agent_id: bytes
    retention_days: int


@dataclass(frozen=True, slots=True)
class Checked:
    """A batch that passed: columns of STORED in order, those by the collector still empty."""

    events: pa.Table
    kinds: dict[str, int]
    """Events (sum of ``count``) by event name."""


def check(batch: Batch, source: Source, now_ns: int) -> Checked:
    """Decode and check one batch.

    Raises:
        PayloadError: why it must be set aside.
    """
    if not SCHEMA_MIN <= batch.schema_version <= SCHEMA_VERSION:
        raise PayloadError(f"schema version {batch.schema_version} is unknown here; known are {SCHEMA_MIN} to {SCHEMA_VERSION}")
    _check_batch_time(batch.batch_time_ns, source, now_ns)
    if batch.rows > MAX_ROWS:
        raise PayloadError(f"the batch has more than {MAX_ROWS} rows")
    if len(batch.arrow) > MAX_PAYLOAD_BYTES:
        raise PayloadError(f"the payload is longer than {MAX_PAYLOAD_BYTES >> 20} MiB")
    table = _read(batch.arrow)
    if table.num_rows != batch.rows:
        raise PayloadError(f"the payload has {table.num_rows} rows, the envelope says {batch.rows}")
    columns = {f.column: _column(table, f) for f in EVENT_FIELDS}
    kinds = _count(columns, batch.events)
    if table.num_rows:
        found = pc.min_max(columns["time"])
        if found["min"].value < EARLIEST_NS or found["max"].value > batch.batch_time_ns + AHEAD_NS:
            raise PayloadError("a row's time is absurd: before the year 2000 or more than a day after its batch")
    columns |= _names(batch, source, table.num_rows)
    events = pa.Table.from_arrays([columns[f.column] for f in STORED], schema=STORED_SCHEMA)
    if events.nbytes > MAX_STORED_BYTES:
        raise PayloadError(f"the batch takes more than {MAX_STORED_BYTES >> 20} MiB in the store")
    return Checked(events, kinds)


def bindings(events: pa.Table) -> pa.Table | None:
    """The rows that bind an instance to a model, with the columns of ``bindings``; None when there are none."""
    name = EVENT_NAMES[Kind.MODEL_IDENTITY]
    if name not in pc.unique(events.column("event_name").combine_chunks().dictionary).to_pylist():
        return None
    chosen = pc.and_(pc.equal(events.column("event_name").cast(pa.string()), name),
                     pc.not_equal(events.column("model_instance"), pa.scalar(0, pa.uint64())))
    found = events.filter(chosen).select(BINDING_COLUMNS)
    return found if found.num_rows else None


def _check_batch_time(batch_time_ns: int, source: Source, now_ns: int) -> None:
    if batch_time_ns > now_ns + AHEAD_NS:
        raise PayloadError("the batch's time is absurd: more than a day ahead of the collector's clock")
    if batch_time_ns < now_ns - source.retention_days * DAY_NS:
        raise PayloadError(f"the batch's time is absurd: older than the {source.retention_days} days that events are kept")


def _read(data: bytes) -> pa.Table:
    decoded_bytes(data, MAX_DECODED_BYTES)
    try:
        with pa.ipc.open_stream(data) as stream:
            table = stream.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as e:
        raise PayloadError("the payload is not a readable Arrow IPC stream") from e
    if len(set(table.column_names)) != len(table.column_names):
        raise PayloadError("the payload has two columns of one name")
    return table.combine_chunks()


def _column(table: pa.Table, field: Field) -> pa.Array:
    """One column as this version stores it: what is missing or null gets the zero of its type."""
    index = table.schema.get_field_index(field.column)
    if index < 0 or field.by == "collector":
        return _zeros(field, table.num_rows)
    column = table.column(index)
    array = column.chunk(0) if column.num_chunks else pa.array([], column.type)
    if field.type in ("string", "closed") and not _holds_text(array.type):
        raise PayloadError(f"column {field.column} cannot be read as text")
    try:
        if field.type == "closed":
            return _closed(array, field)
        if pa.types.is_dictionary(array.type):
            _check_text(array.dictionary, field)
            array = array.dictionary_decode()
        elif field.type == "string":
            array = array.cast(pa.string())
            _check_text(array, field)
        array = array.cast(field.arrow)
    except (pa.ArrowException, ValueError) as e:
        if isinstance(e, PayloadError):
            raise
        raise PayloadError(f"column {field.column} cannot be read as {field.type}") from e
    return array.fill_null(_zero(field)) if array.null_count else array


def _holds_text(kind: pa.DataType) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value))


def _closed(array: pa.Array, field: Field) -> pa.Array:
    """A closed column with the field's own values as its dictionary; values of a newer agent are added behind them."""
    if not pa.types.is_dictionary(array.type):
        array = array.cast(pa.string()).dictionary_encode()
    if array.null_count:
        array = array.cast(pa.string()).fill_null(field.values[0]).dictionary_encode()
    given = array.dictionary.cast(pa.string())
    _check_text(given, field)
    if given.null_count:
        raise PayloadError(f"column {field.column} has a null among its values")
    known = pa.array(field.values)
    if given.equals(known) and array.indices.type == pa.int8():
        return array
    places = pc.index_in(given, known)
    if places.null_count:
        others = [v for v in pc.unique(given).to_pylist() if v not in field.values]
        if len(others) > MAX_OTHER_VALUES:
            raise PayloadError(f"column {field.column} has more than {MAX_OTHER_VALUES} values that are unknown here")
        known = pa.array([*field.values, *others])
        places = pc.index_in(given, known)
    return pa.DictionaryArray.from_arrays(places.take(array.indices).cast(pa.int8()), known)


def _check_text(array: pa.Array, field: Field) -> None:
    """Inert text only: the agent escaped everything else, so anything else is not from an agent of ours."""
    if not pa.types.is_string(array.type):
        array = array.cast(pa.string())
    if not len(array):
        return
    offsets = np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1]
    data = array.buffers()[2]
    if data is None or offsets[-1] == offsets[0]:
        return
    raw = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]
    if ((raw < 0x20) | (raw == 0x7F)).any():
        raise PayloadError(f"column {field.column} holds control characters")
    if np.diff(offsets).max() > MAX_TEXT_BYTES:
        raise PayloadError(f"column {field.column} holds a text of more than {MAX_TEXT_BYTES} bytes")
    if (raw >= 0x80).any() and pc.any(pc.match_substring_regex(array, _HIDDEN)).as_py():
        raise PayloadError(f"column {field.column} holds invisible characters")


def _count(columns: dict[str, pa.Array], events: int) -> dict[str, int]:
    counts = columns["count"]
    if len(counts) and pc.max(counts).as_py() > MAX_COUNT:
        raise PayloadError("a row's count is absurd")
    names = columns["event_name"]
    sums = np.zeros(len(names.dictionary), np.int64)
    np.add.at(sums, names.indices.to_numpy(zero_copy_only=False), counts.to_numpy(zero_copy_only=False).astype(np.int64))
    if int(sums.sum()) != events:
        raise PayloadError(f"the counts of the payload's rows add up to {int(sums.sum())}, the envelope says {events}")
    return {name: int(n) for name, n in zip(names.dictionary.to_pylist(), sums, strict=True) if n}


def _names(batch: Batch, source: Source, rows: int) -> dict[str, pa.Array]:
    """The columns of ROW_FIELDS: the name of each row."""
    values = {
        "host_name": source.host, "agent_id": source.agent_id.hex(), "epoch": batch.epoch.hex(),
        "batch": batch.number, "batch_time": batch.batch_time_ns,
    }
    made = {f.column: pa.repeat(pa.scalar(values[f.column], f.arrow), rows) for f in ROW_FIELDS if f.column in values}
    return made | {"row": pa.array(np.arange(rows, dtype=np.uint32))}


def _zero(field: Field) -> pa.Scalar:
    if field.type == "string":
        return pa.scalar("", pa.string())
    if field.type == "bool":
        return pa.scalar(False)
    if field.column == "count":
        return pa.scalar(1, pa.uint64())
    return pa.scalar(0, field.arrow)


def _zeros(field: Field, rows: int) -> pa.Array:
    if field.type == "closed":
        return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), pa.array(field.values))
    return pa.repeat(_zero(field), rows)
