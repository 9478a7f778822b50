"""Events that the collector makes about a host itself: that it is silent, or that something of it was lost here."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
from modelward_proto.field import Field
from modelward_proto.fields import EVENT_NAMES, STORED, Kind
from modelward_proto.v1.store_pb2 import AppendRequest

from modelward_collector.ingest.judging import Judging
from modelward_collector.ingest.validate import STORED_SCHEMA
from modelward_collector.rules.judge import BatchName
from modelward_collector.store.names import OWN_EPOCH


async def own_batch(judging: Judging, host: str, agent_id: bytes, number: int, at_ns: int,
                    rows: Sequence[dict[str, Any]]) -> AppendRequest:
    """A judged batch of the collector's own. ``number`` names it: made again, even by another collector, it is stored once.

    ``rows``: columns of STORED by name; host, time and the row's name are added.
    """
    shared: dict[str, Any] = {
        "host_name": host, "agent_id": agent_id.hex(), "epoch": OWN_EPOCH.hex(), "batch": number, "batch_time": at_ns,
        "time": at_ns, "count": 1,
    }
    full: list[dict[str, Any]] = [shared | {"row": index} | row for index, row in enumerate(rows)]
    events = pa.Table.from_arrays([_array(f, full) for f in STORED], schema=STORED_SCHEMA)
    judged = await judging.judge_own(events, BatchName(host, agent_id.hex(), OWN_EPOCH.hex(), number))
    kinds: dict[str, int] = {}
    for row in full:
        kinds[row["event_name"]] = kinds.get(row["event_name"], 0) + row["count"]
    return AppendRequest(
        agent_id=agent_id, epoch=OWN_EPOCH, number=number, batch_time_ns=at_ns, host=host, events=judged.events,
        detections=judged.detections, kinds=kinds, decoded_bytes=judged.decoded_bytes)


def silent() -> dict[str, Any]:
    """A host has not been heard of."""
    return {"event_name": EVENT_NAMES[Kind.HOST_SILENT]}


def twice() -> dict[str, Any]:
    """Two agents use one identity."""
    return {"event_name": EVENT_NAMES[Kind.HOST_TWICE]}


def lost(kinds: dict[str, int]) -> list[dict[str, Any]]:
    """Events that were quarantined here, by kind; what cannot be told apart counts as ``all``."""
    return [{"event_name": EVENT_NAMES[Kind.HOST_LOSS], "loss_hop": "quarantined", "loss_kind": kind, "count": count}
            for kind, count in (kinds or {"all": 1}).items()]


def number_of(*parts: object) -> int:
    """A number that stands for these parts: as good as unique, and above any that counts up."""
    digest = sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") | 1 << 63


def _array(field: Field, rows: Sequence[dict[str, Any]]) -> pa.Array:
    if field.type == "closed":
        places = [field.values.index(row.get(field.column, field.values[0])) for row in rows]
        return pa.DictionaryArray.from_arrays(pa.array(np.array(places, np.int8)), pa.array(field.values))
    zero: object = "" if field.type == "string" else False if field.type == "bool" else 0
    return pa.array([row.get(field.column, zero) for row in rows], field.arrow)
