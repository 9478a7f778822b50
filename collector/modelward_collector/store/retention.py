"""Keeps the store within its budget of bytes and days, and says when the disk is nearly full."""

from __future__ import annotations

import logging
import shutil
from typing import TYPE_CHECKING

from modelward_collector import metrics
from modelward_collector.data_folder import DataFolder
from modelward_collector.settings import CollectorSettings
from modelward_collector.store.engine import execute, literal, rows

if TYPE_CHECKING:
    from chdb.state.sqlitelike import Connection

_log = logging.getLogger(__name__)


class Retention:
    """Lifetimes in days are the engine's (TTL of the tables); the budgets of bytes are here."""

    def __init__(self, folder: DataFolder, settings: CollectorSettings) -> None:
        self._folder = folder
        self._days = settings.retention_days
        self._budget = settings.max_store_bytes
        self._least_free = settings.min_free_bytes
        self.full = ""
        """Why no batch is taken now; empty when they are."""

    def enforce(self, connection: Connection) -> None:
        """Drop the oldest days of events while the store is over its budget, and look at the disk.

        Detections, bindings and names of batches stay: they are small, and people look for them longest.
        """
        size = self._bytes(connection)
        while size > self._budget:
            days = rows(connection, """SELECT partition_id, sum(bytes_on_disk), sum(rows) FROM system.parts
                WHERE database = 'modelward' AND table = 'events_raw' AND active GROUP BY partition_id ORDER BY partition_id""")
            if len(days) < 2:
                # The day being written is never dropped: what it holds was acknowledged just now.
                break
            name, dropped, count = days[0]
            execute(connection, f"ALTER TABLE modelward.events_raw DROP PARTITION ID {literal(str(name))}")
            _log.warning("the oldest day of events was dropped: the store is over its budget",
                         extra={"day": name, "rows": count, "bytes": dropped, "budget": self._budget})
            metrics.DROPPED_DAYS.inc()
            size -= int(dropped)
        free = shutil.disk_usage(self._folder.root).free
        metrics.STORE_BYTES.set(size)
        metrics.FREE_BYTES.set(free)
        over = size > self._budget
        reason = ""
        if free < self._least_free:
            reason = f"the disk of the store is nearly full: {free >> 20} MiB free, {self._least_free >> 20} MiB are kept"
        elif over and size > 2 * self._budget:
            reason = f"the store is over its budget of {self._budget >> 20} MiB within one day"
        if reason != self.full:
            _log.log(logging.ERROR if reason else logging.INFO, reason or "the store takes batches again")
            self.full = reason

    def prune(self, connection: Connection) -> int:
        """Forget loads of models that no stored event and no detection names any more; returns how many.

        Their age alone tells nothing: a server may answer for months with the model that it loaded once.
        """
        old = f"time < now64(9, 'UTC') - INTERVAL {self._days + 2} DAY"
        both = "SELECT host_name, arrayJoin([model_instance, lifecycle_origin_instance]) AS instance"
        unnamed = " AND ".join(
            f"(host_name, model_instance) NOT IN ({both} FROM modelward.{table})" for table in ("detections_raw", "events_raw"))
        [[any_old]] = rows(connection, f"SELECT count() FROM modelward.bindings WHERE {old}")
        if not int(any_old):
            return 0
        [[count]] = rows(connection, f"SELECT count() FROM modelward.bindings WHERE {old} AND {unnamed}")
        if int(count):
            execute(connection, f"ALTER TABLE modelward.bindings DELETE WHERE {old} AND {unnamed}")
            _log.info("loads of models that nothing names any more are forgotten", extra={"loads": int(count)})
        return int(count)

    def _bytes(self, connection: Connection) -> int:
        [[size]] = rows(connection,
                        "SELECT sum(bytes_on_disk) FROM system.parts WHERE database = 'modelward' AND active")
        return int(size)
