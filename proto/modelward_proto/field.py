"""What one field is: its name, type and meaning, and the column it has in Arrow and in ClickHouse."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pyarrow as pa

Type = Literal["string", "closed", "bool", "u8", "u16", "u32", "u64", "i32", "i64", "f64", "time", "strings"]

_CLICKHOUSE: dict[str, str] = {
    "string": "String",
    "closed": "LowCardinality(String)",
    "bool": "Bool",
    "u8": "UInt8",
    "u16": "UInt16",
    "u32": "UInt32",
    "u64": "UInt64",
    "i32": "Int32",
    "i64": "Int64",
    "f64": "Float64",
    "time": "DateTime64(9, 'UTC')",
    "strings": "Array(String)",
}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an event, a detection or a binding."""

    name: str
    type: Type
    by: Literal["kernel", "agent", "collector"]
    doc: str
    example: str | int | float | bool = ""
    values: tuple[str, ...] = ()
    """The only values allowed in a rule; empty when open. A ``closed`` field has them all."""

    column: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "column", self.name.replace(".", "_"))
        if self.type == "closed" and not self.values:
            raise ValueError(f"field {self.name}: a closed field needs its values")

    @property
    def arrow(self) -> pa.DataType:
        """Arrow type on the wire and in the receivers."""
        return _arrow_types()[self.type]

    @property
    def clickhouse(self) -> str:
        """ClickHouse column type."""
        return _CLICKHOUSE[self.type]


@cache
def _arrow_types() -> dict[str, pa.DataType]:
    import pyarrow as pa

    return {
        "string": pa.string(),
        "closed": pa.dictionary(pa.int8(), pa.string()),
        "bool": pa.bool_(),
        "u8": pa.uint8(),
        "u16": pa.uint16(),
        "u32": pa.uint32(),
        "u64": pa.uint64(),
        "i32": pa.int32(),
        "i64": pa.int64(),
        "f64": pa.float64(),
        "time": pa.timestamp("ns", tz="UTC"),
        "strings": pa.list_(pa.string()),
    }


def arrow_schema(fields: tuple[Field, ...]) -> pa.Schema:
    """Arrow schema of a tuple of fields, in order, all non-null.

    Missing values are the type's zero: empty text, 0, False; a ``closed`` field has its first value.
    """
    import pyarrow as pa

    return pa.schema([pa.field(f.column, f.arrow, nullable=False) for f in fields])
