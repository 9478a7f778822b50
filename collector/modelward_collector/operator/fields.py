"""``modelward fields``: the one table of fields, from the code itself."""

from __future__ import annotations

import json
from typing import Any

from modelward_proto.field import Field
from modelward_proto.fields import STORED
from rich.text import Text

from modelward_collector.operator.show import Column, console, plain, safe, table

_BY = {"kernel": "kernel", "agent": "agent", "collector": "collector"}


def show_fields(word: str, *, as_json: bool) -> int:
    """Print all fields, or those with ``word`` in name or meaning. 1 when there is none."""
    wanted = word.lower()
    found = [f for f in STORED if wanted in f.name or wanted in f.column or wanted in f.doc.lower()]
    rows = [_row(f) for f in found]
    if as_json:
        for row in rows:
            print(json.dumps(row))
    else:
        columns = [
            Column("field", plain("name", "bold"), fold=True),
            Column("type", plain("type", "cyan")),
            Column("meaning", lambda row: _meaning(row), fold=True),
            Column("example", plain("example", "green"), fold=True, room=100),
        ]
        shown = console()
        if rows:
            shown.print(table(columns, rows, shown.width))
        else:
            shown.print(f"No field has '{safe(word)}' in its name or meaning; 'modelward fields' shows all.")
            return 1
        shown.print(
            f"{len(rows)} fields. In SQL a name has underscores for its dots: process_executable_path.",
            style="dim",
        )
    return 0 if found else 1


def _row(f: Field) -> dict[str, Any]:
    return {
        "name": f.name,
        "column": f.column,
        "type": f.type,
        "clickhouse": f.clickhouse,
        "by": _BY[f.by],
        "doc": f.doc,
        "values": list(f.values),
        "example": str(f.example),
    }


def _meaning(row: dict[str, Any]) -> Text:
    text = Text(safe(row["doc"]))
    values = row["values"]
    if values:
        text.append(("\n" if text.plain else "") + " | ".join(str(v) for v in values), "dim")
    return text
