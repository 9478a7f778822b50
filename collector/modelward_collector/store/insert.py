"""Exactly-once inserts: one group of batches after another, each answered only when all of it is durable.

The order within a group is events, detections, bindings, names of the batches. A batch counts as stored when its name is in
``batches``; the journal closes the gaps between the four inserts.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from modelward_proto.field import arrow_schema
from modelward_proto.fields import BINDING_FIELDS, DETECTION_FIELDS, STORED
from modelward_proto.v1.store_pb2 import AppendRequest

from modelward_collector.store.encode import joined, span, timestamp, without_zeros
from modelward_collector.store.engine import EngineError, insert_json, insert_table, rows
from modelward_collector.store.following import Following
from modelward_collector.store.held import EpochKey, Held
from modelward_collector.store.journal import Group, Journal, Member
from modelward_collector.store.names import file_name

if TYPE_CHECKING:
    from chdb.state.sqlitelike import Connection

_log = logging.getLogger(__name__)

DAY_NS = 86_400 * 10**9


class StoreBusy(Exception):
    """Nothing is wrong with the batch, and it cannot be stored now. It was not stored; send it again."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one batch. ``quarantined`` holds the reason when it was set aside."""

    quarantined: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """One request with its decoded events."""

    request: AppendRequest
    key: EpochKey
    events: pa.Table

    @property
    def name(self) -> tuple[EpochKey, int]:
        """Under which it is stored once."""
        return self.key, self.request.number


class Writer:
    """The only one that writes events. All methods belong to the thread of the connection given."""

    def __init__(self, journal: Journal, held: Held, scratch: Path) -> None:
        self._journal = journal
        self._scratch = scratch
        self._held = held
        self._stored_schema = arrow_schema(STORED)
        self._following = Following(journal, held, scratch)

    @property
    def bound(self) -> int:
        """How many groups with bindings were stored: the dictionary is loaded again when this moves."""
        return self._following.bound

    def settle(self, connection: Connection) -> None:
        """Finish or forget every group that was interrupted.

        Raises:
            EngineError: the engine cannot answer now; nothing new may be stored before this succeeds.
        """
        for group in list(self._journal.unfinished()):
            if self._has_events(connection, group):
                self._following.insert(connection, group)
                _log.info("an interrupted insert group was finished", extra={"group": group.name})
            else:
                _log.info("an interrupted insert group was forgotten, its agents send it again", extra={"group": group.name})
            self._journal.done(group.name)

    def store(self, connection: Connection, requests: Sequence[AppendRequest]) -> list[Outcome | StoreBusy]:
        """Store requests, in groups of one day each, and say what became of each, in the order given."""
        try:
            self.settle(connection)
        except (EngineError, OSError) as e:
            return [StoreBusy(str(e)) for _ in requests]
        outcomes: dict[int, Outcome | StoreBusy] = {}
        fresh: dict[int, list[tuple[int, Batch]]] = {}
        seen: dict[tuple[EpochKey, int], int] = {}
        again: list[tuple[int, int]] = []
        for index, request in enumerate(requests):
            key = EpochKey(request.host, request.agent_id.hex(), request.epoch.hex())
            try:
                known = self._known(connection, key, request)
                if known is not None:
                    outcomes[index] = known
                    continue
                batch = Batch(request, key, self._decode(request.events))
            except EngineError as e:
                outcomes[index] = StoreBusy(str(e))
                continue
            except (pa.ArrowException, ValueError) as e:
                outcomes[index] = self._set_aside(connection, key, request, f"the store cannot read it: {e}")
                continue
            if (first := seen.setdefault(batch.name, index)) != index:
                if requests[first].checksum == request.checksum:
                    again.append((index, first))
                else:
                    outcomes[index] = self._set_aside(connection, key, request, _CONFLICT)
                continue
            fresh.setdefault(request.batch_time_ns // DAY_NS, []).append((index, batch))
        for day in fresh.values():
            for (index, _), outcome in zip(day, self._store_day(connection, [b for _, b in day]), strict=True):
                outcomes[index] = outcome
        for index, first in again:
            outcomes[index] = outcomes[first]
        return [outcomes[i] for i in range(len(requests))]

    def totals(self, connection: Connection, key: EpochKey) -> tuple[dict[str, int], dict[str, int]]:
        """Events of an epoch stored and quarantined so far, by kind."""
        epoch = self._held.epoch(connection, key)
        return dict(epoch.stored), dict(epoch.quarantined)

    def _known(self, connection: Connection, key: EpochKey, request: AppendRequest) -> Outcome | StoreBusy | None:
        if request.quarantine:
            return self._set_aside(connection, key, request, request.quarantine)
        checksum = self._held.checksum(connection, key, request.number)
        if checksum is None:
            return None
        if checksum == request.checksum:
            return Outcome()
        return self._set_aside(connection, key, request, _CONFLICT)

    def _decode(self, data: bytes) -> pa.Table:
        table = pa.ipc.open_stream(data).read_all()
        if table.schema.names != self._stored_schema.names:
            table = table.select(self._stored_schema.names)
        return table.cast(self._stored_schema) if table.schema.types != self._stored_schema.types else table

    def _store_day(self, connection: Connection, batches: list[Batch]) -> list[Outcome | StoreBusy]:
        try:
            # A day before this one may have left its group unfinished; totals are counted on top of it.
            self.settle(connection)
        except (EngineError, OSError) as e:
            return [StoreBusy(str(e)) for _ in batches]
        group = self._compose(connection, batches)
        events = pa.concat_tables([b.events for b in batches]).unify_dictionaries().combine_chunks()
        try:
            self._journal.write(group)
        except OSError as e:
            return [StoreBusy(f"the journal cannot be written: {e.strerror}") for _ in batches]
        if events.num_rows:
            try:
                insert_table(connection, "events_raw", without_zeros(events), group.name, self._scratch)
            except EngineError as e:
                return self._after_failure(connection, group, batches, e)
            except OSError as e:
                self._journal.done(group.name)
                return [StoreBusy(f"the events cannot be written: {e.strerror}") for _ in batches]
        try:
            self._following.insert(connection, group)
        except (EngineError, OSError) as e:
            # The journal keeps the group: the next call settles it before anything else.
            return [StoreBusy(str(e)) for _ in batches]
        self._journal.done(group.name)
        return [Outcome() for _ in batches]

    def _after_failure(self, connection: Connection, group: Group, batches: list[Batch],
                       error: EngineError) -> list[Outcome | StoreBusy]:
        """An insert that failed may have stored its rows all the same: only the table knows."""
        _log.error("an insert failed", extra={"group": group.name, "code": error.code, "error": str(error)})
        try:
            self.settle(connection)
            if self._held.checksum(connection, batches[0].key, batches[0].request.number) is not None:
                return [Outcome() for _ in batches]
        except (EngineError, OSError) as e:
            return [StoreBusy(str(e)) for _ in batches]
        if not error.blames_rows:
            return [StoreBusy(str(error)) for _ in batches]
        if len(batches) > 1:
            return [outcome for batch in batches for outcome in self._store_day(connection, [batch])]
        reason = f"the engine refused it: {error}"
        return [self._set_aside(connection, batches[0].key, batches[0].request, reason)]

    def _compose(self, connection: Connection, batches: list[Batch]) -> Group:
        self._held.sequence = max(self._held.sequence + 1, time.time_ns())
        sequence = self._held.sequence
        stored: dict[EpochKey, dict[str, int]] = {}
        last = {batch.key: batch.request.number for batch in batches}
        members: list[Member] = []
        names: list[dict[str, object]] = []
        for batch in batches:
            request, key = batch.request, batch.key
            totals = stored.setdefault(key, dict(self._held.epoch(connection, key).stored))
            for kind, count in request.kinds.items():
                totals[kind] = totals.get(kind, 0) + count
            first_ns, last_ns = span(batch.events)
            members.append(Member(*key, request.number, request.checksum, request.batch_time_ns,
                                  batch.events.num_rows, first_ns, last_ns))
            shown = totals if last[key] == request.number else {}
            names.append({
                "host_name": key.host, "agent_id": key.agent_id, "epoch": key.epoch, "batch": request.number,
                "checksum": request.checksum, "batch_time": timestamp(request.batch_time_ns), "rows": batch.events.num_rows,
                "sequence": sequence, "kinds": list(shown), "totals": list(shown.values()),
            })
        return Group(
            f"{sequence:020d}-{secrets.token_hex(8)}", sequence, tuple(members), tuple(names),
            joined((b.request.detections for b in batches), DETECTION_FIELDS),
            joined((b.request.bindings for b in batches), BINDING_FIELDS),
        )

    def _has_events(self, connection: Connection, group: Group) -> bool:
        """Whether the events of a group are in the table. A group is one part: its first batch speaks for all."""
        member = next((m for m in group.members if m.rows), None)
        if member is None:
            return False
        [[count]] = rows(connection, """SELECT count() FROM modelward.events_raw
            WHERE host_name = {host:String} AND time >= fromUnixTimestamp64Nano({a:Int64}, 'UTC')
            AND time <= fromUnixTimestamp64Nano({b:Int64}, 'UTC') AND batch_time = fromUnixTimestamp64Nano({t:Int64}, 'UTC')
            AND agent_id = {agent:String} AND epoch = {epoch:String} AND batch = {n:UInt64}""", {
            "host": member.host, "agent": member.agent_id, "epoch": member.epoch, "n": member.number,
            "a": member.first_ns, "b": member.last_ns, "t": member.batch_time_ns})
        return int(count) > 0

    def _set_aside(self, connection: Connection, key: EpochKey, request: AppendRequest,
                   reason: str) -> Outcome | StoreBusy:
        try:
            before = self._held.quarantined(connection, key, request.number, request.checksum)
            if before is not None:
                return Outcome(quarantined=before)
            insert_json(connection, "quarantine", [{
                "at": timestamp(time.time_ns())[:23], "host_name": key.host, "agent_id": key.agent_id, "epoch": key.epoch,
                "batch": request.number, "checksum": request.checksum, "reason": reason,
                "file": file_name(request.agent_id, request.epoch, request.number, request.checksum),
                "bytes": len(request.events), "kinds": list(request.kinds), "counts": list(request.kinds.values()),
            }], secrets.token_hex(16))
        except EngineError as e:
            return StoreBusy(str(e))
        totals = self._held.epoch(connection, key).quarantined
        for kind, count in request.kinds.items():
            totals[kind] = totals.get(kind, 0) + count
        _log.warning("a batch was quarantined", extra={"host": key.host, "batch": request.number, "reason": reason})
        return Outcome(quarantined=reason)


_CONFLICT = "a batch of this name with another checksum is stored"
