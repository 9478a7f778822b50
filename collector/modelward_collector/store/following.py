"""What follows the events of a group: detections, bindings and the names of its batches, each inserted only if it is missing."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from modelward_proto.fields import BINDING_FIELDS, DETECTION_FIELDS

from modelward_collector.store.encode import columns_of, ipc
from modelward_collector.store.engine import EngineError, insert, insert_json, literal, rows
from modelward_collector.store.held import EpochKey, Held
from modelward_collector.store.journal import Group, Journal

if TYPE_CHECKING:
    from chdb.state.sqlitelike import Connection

_log = logging.getLogger(__name__)

ASKED = 2_000
"""Detections asked for in one query: the engine reads 256 KiB of SQL."""

SLICE = 4_000
"""Detections in one insert: a batch of which every row is a finding must not need more memory than the engine has."""


class Following:
    """Inserts it. All methods belong to the thread of the connection given."""

    def __init__(self, journal: Journal, held: Held, scratch: Path) -> None:
        self._journal = journal
        self._held = held
        self._scratch = scratch
        self._last_stored_ns = 0
        self.bound = 0
        """How many groups with bindings were stored."""

    def insert(self, connection: Connection, group: Group) -> None:
        """Insert what follows the events of a group, each only if it is missing."""
        for work in (self._detections, self._bindings):
            try:
                work(connection, group)
            except EngineError as e:
                if not e.blames_rows:
                    raise
                # What time does not heal must not stop everything that comes after: the file stays for a person.
                self._journal.keep_aside(group)
                _log.critical("detections or bindings of a group are refused; its journal file is kept", extra={
                    "group": group.name, "error": str(e)})
        first = group.members[0]
        key = EpochKey(first.host, first.agent_id, first.epoch)
        if self._held.checksum(connection, key, first.number) is None:
            insert_json(connection, "batches", group.names, group.name)
        for member, name in zip(group.members, group.names, strict=True):
            key = EpochKey(member.host, member.agent_id, member.epoch)
            self._held.add(connection, key, member.number, member.checksum)
            if name["kinds"]:
                self._held.epoch(connection, key).stored = dict(zip(name["kinds"], name["totals"], strict=True))

    def _detections(self, connection: Connection, group: Group) -> None:
        if not group.detections:
            return
        found = pa.ipc.open_stream(group.detections).read_all()
        ids = found.column("detection_id").to_pylist()
        stored: set[str] = set()
        for start in range(0, len(ids), ASKED):
            listed = ", ".join(map(literal, ids[start : start + ASKED]))
            stored.update(r[0] for r in rows(
                connection, f"SELECT detection_id FROM modelward.detections_raw WHERE detection_id IN ({listed})"))
        wanted: dict[str, int] = {}
        for index, name in enumerate(ids):
            if name not in stored:
                wanted.setdefault(name, index)
        missing = list(wanted.values())
        for start in range(0, len(missing), SLICE):
            rows_of = missing[start : start + SLICE]
            stamped = found.take(pa.array(rows_of, pa.int64())).append_column("stored_at", self._stamps(connection, len(rows_of)))
            # Settled again after a crash, less is missing: a token of the group and a place would drop other rows than it did.
            token = f"{group.name}-{ids[rows_of[0]]}"
            columns = (*columns_of(DETECTION_FIELDS), "stored_at")
            insert(connection, "detections_raw", columns, ipc(stamped), token, self._scratch)

    def _stamps(self, connection: Connection, count: int) -> pa.Array:
        """Times for new detections, each later than any given before, whatever the clock does."""
        if not self._last_stored_ns:
            # An output may have read further than the last detection that is still kept.
            [[last]] = rows(connection, """SELECT toUnixTimestamp64Nano(max(stored_at)) FROM (
                SELECT stored_at FROM modelward.detections_raw UNION ALL SELECT stored_at FROM modelward.outputs_raw)""")
            self._last_stored_ns = int(last)
        first = max(time.time_ns(), self._last_stored_ns + 1)
        self._last_stored_ns = first + count - 1
        return pa.array(range(first, first + count), pa.timestamp("ns", tz="UTC"))

    def _bindings(self, connection: Connection, group: Group) -> None:
        if group.bindings:
            insert(connection, "bindings", columns_of(BINDING_FIELDS), group.bindings, group.name, self._scratch)
            self.bound += 1
