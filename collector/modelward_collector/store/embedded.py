"""The store on the embedded engine: lanes of the engine, group commit, hosts, queries, retention, put together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from modelward_proto.v1.store_pb2 import (
    AdvanceRequest,
    AppendReply,
    AppendRequest,
    BackupRequest,
    ExceptionRequest,
    HeldReply,
    HeldRequest,
    ReportReply,
    ReportRequest,
    SelectReply,
    SelectRequest,
    WriteReply,
)
from modelward_proto.v1.stream_pb2 import Range

from modelward_collector import metrics
from modelward_collector.data_folder import DataFolder, DataFolderError
from modelward_collector.nudge import Nudge
from modelward_collector.settings import CollectorSettings
from modelward_collector.store import exceptions, hosts
from modelward_collector.store.backup import snapshot
from modelward_collector.store.commit import GroupCommit
from modelward_collector.store.cursors import Cursors
from modelward_collector.store.ddl.migrations import migrate
from modelward_collector.store.ddl.views import DICTIONARIES, EXCEPTIONS, LABELS, MODELS
from modelward_collector.store.engine import EngineError, Lane, execute
from modelward_collector.store.held import EpochKey, Held
from modelward_collector.store.insert import Outcome, StoreBusy, Writer
from modelward_collector.store.interface import StoreUnavailable, WriteRefused
from modelward_collector.store.journal import Journal
from modelward_collector.store.retention import Retention
from modelward_collector.store.select import Queries

if TYPE_CHECKING:
    from chdb.state.sqlitelike import Connection

_log = logging.getLogger(__name__)

REPORT_PERIOD_S = 1.0
RETENTION_PERIOD_S = 20.0
PRUNE_PERIOD_S = 6 * 3600.0
RELOAD_SHARE = 5
"""The dictionary of bindings is loaded again at most this fraction of the time, so that many bindings cannot starve inserts."""


class EmbeddedStore:
    """:class:`~modelward_collector.store.interface.Store` on chdb. Make it with :meth:`open`."""

    def __init__(self, folder: DataFolder, settings: CollectorSettings) -> None:
        self._folder = folder
        self._settings = settings
        self._held = Held()
        self._writer = Writer(Journal(folder.journal), self._held, folder.scratch)
        self._writing = Lane("writer", folder.engine)
        self._upkeep = Lane("upkeep", folder.engine)
        self._queries = Queries(folder.engine)
        self._hosts = hosts.Hosts()
        self._labels_shown = 0
        self._cursors = Cursors()
        self._retention = Retention(folder, settings)
        self._nudge = Nudge(folder.outputs_nudge)
        self._bindings = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._group: GroupCommit | None = None

    @classmethod
    async def open(cls, folder: DataFolder, settings: CollectorSettings) -> EmbeddedStore:
        """Open the engine, bring the tables to this version, and settle what a crash left.

        Raises:
            EngineError: the engine cannot open the folder.
            MigrationError: the folder is of a newer version.
        """
        store = cls(folder, settings)
        shutil.rmtree(folder.engine / "shadow", ignore_errors=True)
        with contextlib.suppress(DataFolderError), folder.snapshots_locked():
            pass
        applied = await store._writing.run(lambda c: migrate(
            c, settings.retention_days, settings.silent_after_s, settings.detection_retention_days))
        if applied:
            _log.info("tables brought to this version", extra={"migrations": applied})
        await store._writing.run(store._writer.settle)
        await store._writing.run(store._hosts.load)
        for dictionary in DICTIONARIES:
            await store._reload(dictionary)
        await store._upkeep.run(store._retention.enforce)
        store._group = GroupCommit(store._commit)
        store._tasks = [
            asyncio.create_task(_forever(store._write_reports, REPORT_PERIOD_S)),
            asyncio.create_task(_forever(store._enforce_retention, RETENTION_PERIOD_S)),
            asyncio.create_task(_forever(store._prune, PRUNE_PERIOD_S)),
            asyncio.create_task(_forever(store._reload_bindings, 0)),
        ]
        return store

    async def append(self, request: AppendRequest) -> AppendReply:
        if self._group is None or (reason := self._retention.full):
            raise StoreUnavailable(reason if self._group else "the store is stopping")
        outcome = await self._group.append(request)
        return AppendReply(stored=not outcome.quarantined, quarantined=outcome.quarantined)

    async def held(self, request: HeldRequest) -> HeldReply:
        key = EpochKey(request.host, request.agent_id.hex(), request.epoch.hex())
        try:
            await self._writing.run(self._writer.settle)
            found = await self._writing.run(lambda c: self._held.ranges(c, key, getattr(request, "from")))
        except (EngineError, OSError) as e:
            raise StoreUnavailable(str(e)) from e
        return HeldReply(held=[Range(first=a, last=b, checksums=c) for a, b, c in found])

    async def report(self, request: ReportRequest) -> ReportReply:
        self._hosts.take(request)
        if request.HasField("heartbeat") or request.HasField("hello"):
            key = EpochKey(request.host, request.agent_id.hex(), request.epoch.hex())
            try:
                stored, quarantined = await self._writing.run(lambda c: self._writer.totals(c, key))
            except EngineError as e:
                raise StoreUnavailable(str(e)) from e
            self._hosts.totals(key, stored, quarantined, {c.kind: c.count for c in request.received[:100]})
        return ReportReply()

    async def select(self, request: SelectRequest) -> SelectReply:
        return await self._queries.select(request)

    async def ask(self, request: SelectRequest) -> SelectReply:
        return await self._queries.ask(request)

    async def make_exception(self, request: ExceptionRequest) -> WriteReply:
        reply = await self._write(lambda c: exceptions.write(c, request))
        if not reply.error:
            await self._reload(EXCEPTIONS)
        return reply

    async def advance(self, request: AdvanceRequest) -> WriteReply:
        return await self._write(lambda c: self._cursors.advance(c, request))

    async def backup(self, request: BackupRequest) -> WriteReply:
        asked, snapshots = Path(request.folder), self._folder.snapshots
        if not asked.parent.exists() or not asked.parent.samefile(snapshots):
            return WriteReply(error=f"A snapshot is made below {snapshots}.")

        def work(connection: Connection) -> None:
            # On the writer's own thread: no group is half inserted meanwhile.
            self._writer.settle(connection)
            snapshot.take(connection, self._folder.engine, self._folder.journal, snapshots / asked.name)

        return await self._write(work)

    async def close(self) -> None:
        group, self._group = self._group, None
        if group is not None:
            await group.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._write_reports()
        for close in (self._queries.close, self._upkeep.close, self._writing.close):
            await asyncio.to_thread(close)
        self._nudge.close()

    async def _commit(self, requests: list[AppendRequest]) -> list[Outcome | StoreBusy]:
        keys = {EpochKey(r.host, r.agent_id.hex(), r.epoch.hex()) for r in requests}

        def work(connection: object) -> tuple[list[Outcome | StoreBusy], dict[EpochKey, tuple[dict[str, int], dict[str, int]]]]:
            outcomes = self._writer.store(connection, requests)
            try:
                totals = {key: self._writer.totals(connection, key) for key in keys}
            except EngineError:
                totals = {}
            return outcomes, totals

        bound = self._writer.bound
        started = time.monotonic()
        outcomes, totals = await self._writing.run(work)
        metrics.STORE_SECONDS.observe(time.monotonic() - started)
        metrics.STORE_GROUP_BATCHES.observe(len(requests))
        for key, (stored, quarantined) in totals.items():
            self._hosts.totals(key, stored, quarantined)
        if any(r.detections for r in requests):
            self._nudge.send()
        if self._writer.bound != bound:
            self._bindings.set()
        return outcomes

    async def _write(self, work: Callable[[Connection], None]) -> WriteReply:
        try:
            await self._writing.run(work)
        except WriteRefused as e:
            return WriteReply(error=str(e))
        except (EngineError, OSError) as e:
            raise StoreUnavailable(str(e)) from e
        return WriteReply()

    async def _reload(self, dictionary: str) -> None:
        await self._upkeep.run(lambda c: execute(c, f"SYSTEM RELOAD DICTIONARY {dictionary}"))

    async def _write_reports(self) -> None:
        lines, ledger = self._hosts.changes()
        if lines or ledger:
            try:
                await self._upkeep.run(lambda c: hosts.flush(c, lines, ledger))
            except (EngineError, OSError):
                self._hosts.unwritten(lines, ledger)
                raise
        relabelled = self._hosts.relabelled
        if relabelled != self._labels_shown:
            await self._reload(LABELS)
            self._labels_shown = relabelled

    async def _enforce_retention(self) -> None:
        await self._upkeep.run(self._retention.enforce)

    async def _prune(self) -> None:
        if await self._upkeep.run(self._retention.prune):
            self._bindings.set()

    async def _reload_bindings(self) -> None:
        await self._bindings.wait()
        self._bindings.clear()
        started = time.monotonic()
        await self._reload(MODELS)
        await asyncio.sleep((time.monotonic() - started) * RELOAD_SHARE)


async def _forever(work: Callable[[], Awaitable[None]], period_s: float) -> None:
    while True:
        await asyncio.sleep(period_s)
        try:
            await work()
        except (EngineError, OSError) as e:
            _log.error("upkeep of the store failed", extra={"error": str(e)})
            await asyncio.sleep(1)
