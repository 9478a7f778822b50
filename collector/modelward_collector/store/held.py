"""Which batches are stored: asked before every insert, so that a batch that comes again is answered and not stored again."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from modelward_collector.store.engine import rows

if TYPE_CHECKING:
    from chdb.state.sqlitelike import Connection

REMEMBERED = 400_000
"""Names of batches kept in memory over all epochs, about 100 bytes each; older ones are looked up in the table."""

LEAST_PER_EPOCH = 64
MOST_EPOCHS = 20_000

MOST_RANGES = 50_000
"""Ranges named to an agent: one with more holes sends the rest again and is told then. More would not fit into a Welcome."""

MOST_CHECKSUMS = 200_000
"""Checksums named to an agent beside the ranges: 800 kB. A spool holds 65,536 batches."""

_OF_EPOCH = "host_name = {host:String} AND agent_id = {agent:String} AND epoch = {epoch:String}"


class EpochKey(NamedTuple):
    """One life of one agent's spool. The host is part of it: no agent can speak for another host."""

    host: str
    agent_id: str
    epoch: str

    @property
    def parameters(self) -> dict[str, str]:
        """For the condition that picks this epoch."""
        return {"host": self.host, "agent": self.agent_id, "epoch": self.epoch}


@dataclass(slots=True)
class Epoch:
    """What is known of one epoch."""

    floor: int
    """Batches from here on are all in ``checksums`` if they are stored; for lower ones the table must be asked."""
    checksums: dict[int, int] = field(default_factory=dict)
    stored: dict[str, int] = field(default_factory=dict)
    """Events stored so far, by kind."""
    quarantined: dict[str, int] = field(default_factory=dict)


class Held:
    """The index of stored batches: recent ones in memory, all of them in the table ``batches``. For the writer's thread alone."""

    def __init__(self) -> None:
        self._epochs: OrderedDict[EpochKey, Epoch] = OrderedDict()
        self.sequence = 0

    def epoch(self, connection: Connection, key: EpochKey) -> Epoch:
        """The epoch, read from the table at first use."""
        known = self._epochs.get(key)
        if known is None:
            known = self._load(connection, key)
            self._epochs[key] = known
            if len(self._epochs) > MOST_EPOCHS:
                self._epochs.popitem(last=False)
        self._epochs.move_to_end(key)
        return known

    def checksum(self, connection: Connection, key: EpochKey, number: int) -> int | None:
        """Checksum of a stored batch; None when that batch is not stored."""
        epoch = self.epoch(connection, key)
        if number >= epoch.floor:
            return epoch.checksums.get(number)
        found = rows(connection, f"SELECT checksum FROM modelward.batches WHERE {_OF_EPOCH} AND batch = {{n:UInt64}} LIMIT 1",
                     key.parameters | {"n": str(number)})
        return int(found[0][0]) if found else None

    def add(self, connection: Connection, key: EpochKey, number: int, checksum: int) -> None:
        """Note a batch that was just stored."""
        epoch = self.epoch(connection, key)
        if number < epoch.floor:
            return
        epoch.checksums[number] = checksum
        limit = self._limit()
        if len(epoch.checksums) > 2 * limit:
            kept = sorted(epoch.checksums)[-limit:]
            epoch.floor = kept[0]
            epoch.checksums = {n: epoch.checksums[n] for n in kept}

    def ranges(self, connection: Connection, key: EpochKey, first: int) -> list[tuple[int, int, list[int]]]:
        """Stored batches from ``first`` on, as ranges with both ends: the lowest :data:`MOST_RANGES` of them.

        With each, the checksums of its batches in order; none when there are more than :data:`MOST_CHECKSUMS` over all.
        """
        found = [(int(a), int(b)) for a, b in rows(connection, f"""
            SELECT min(batch), max(batch) FROM (
                SELECT batch, batch - row_number() OVER (ORDER BY batch) AS part FROM (
                    SELECT DISTINCT batch FROM modelward.batches WHERE {_OF_EPOCH} AND batch >= {{n:UInt64}}))
            GROUP BY part ORDER BY 1 LIMIT {MOST_RANGES}""", key.parameters | {"n": str(first)})]
        if not found or sum(b - a + 1 for a, b in found) > MOST_CHECKSUMS:
            return [(a, b, []) for a, b in found]
        checksums = {int(n): int(c) for n, c in rows(connection, f"""
            SELECT batch, any(checksum) FROM modelward.batches
            WHERE {_OF_EPOCH} AND batch >= {{n:UInt64}} AND batch <= {{m:UInt64}} GROUP BY batch""",
            key.parameters | {"n": str(first), "m": str(found[-1][1])})}
        return [(a, b, [checksums[n] for n in range(a, b + 1)]) for a, b in found]

    def quarantined(self, connection: Connection, key: EpochKey, number: int, checksum: int) -> str | None:
        """Reason for which a batch was set aside before; None when it was not."""
        found = rows(connection, f"""SELECT reason FROM modelward.quarantine
            WHERE {_OF_EPOCH} AND batch = {{n:UInt64}} AND checksum = {{c:UInt32}} LIMIT 1""",
            key.parameters | {"n": str(number), "c": str(checksum)})
        return str(found[0][0]) if found else None

    def _limit(self) -> int:
        return max(LEAST_PER_EPOCH, REMEMBERED // (2 * max(1, len(self._epochs))))

    def _load(self, connection: Connection, key: EpochKey) -> Epoch:
        limit = self._limit()
        recent = rows(connection, f"SELECT batch, checksum FROM modelward.batches WHERE {_OF_EPOCH} "
                      f"ORDER BY batch DESC LIMIT {limit}", key.parameters)
        last = rows(connection, f"SELECT sequence, kinds, totals FROM modelward.batches WHERE {_OF_EPOCH} AND notEmpty(kinds) "
                    "ORDER BY sequence DESC LIMIT 1", key.parameters)
        # Rows of the quarantine expire, and their counts belong to the epoch's sums for ever.
        aside = rows(connection, f"""SELECT kind, max(total) FROM (
                SELECT kind, sum(count) AS total FROM modelward.quarantine
                ARRAY JOIN kinds AS kind, counts AS count WHERE {_OF_EPOCH} GROUP BY kind
                UNION ALL SELECT kind, count FROM modelward.ledger_raw FINAL WHERE {_OF_EPOCH} AND hop = 'quarantined')
            GROUP BY kind""", key.parameters)
        epoch = Epoch(floor=int(recent[-1][0]) if len(recent) == limit else 0)
        epoch.checksums = {int(n): int(c) for n, c in recent}
        epoch.quarantined = {str(k): int(n) for k, n in aside}
        if last:
            self.sequence = max(self.sequence, int(last[0][0]))
            epoch.stored = {str(k): int(n) for k, n in zip(last[0][1], last[0][2], strict=True)}
        return epoch
