"""Whose effects a batch holds, and the models of which it tells: rows for the wire now, identities for the drainer once found."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from modelward_agent.control import MAX_BACKLOG, Channel
from modelward_agent.enrich.enricher import Enricher
from modelward_agent.identity.artifact import Artifact
from modelward_agent.identity.recogniser import Opened, Recogniser
from modelward_agent.identity.resolver import Resolver, identity_record
from modelward_agent.identity.unfinished import Unfinished
from modelward_agent.spool.batch import SpooledBatch

LATE_AT_ONCE = 256


class Naming:
    """The enricher, and what works out of its sight; results go through ``channel``."""

    def __init__(
        self, channel: Channel, enricher: Enricher, resolver: Resolver, recogniser: Recogniser, folder: Path, boot_id: str
    ) -> None:
        """``folder``: where is kept what a sender that crashes was not through with."""
        self._channel = channel
        self._enricher = enricher
        self._resolver = resolver
        self._recogniser = recogniser
        self._unfinished = Unfinished(folder / "unfinished", boot_id, Artifact)
        self._unrecognised = Unfinished(folder / "unrecognised", boot_id, Opened)
        for artifact in self._unfinished.load():
            resolver.submit(artifact)
        recogniser.submit(self._unrecognised.load())

    @property
    def processes(self) -> int:
        """How many are tracked."""
        return self._enricher.processes

    def problems(self) -> list[str]:
        """In sentences."""
        return [*self._forgotten(), *self._resolver.problems(), *self._recogniser.problems()]

    def rows(self, batch: SpooledBatch) -> pa.RecordBatch:
        """What a batch holds, for the wire. What it tells of models is looked into from now on."""
        rows = self._enricher.enrich(batch)
        for artifact in self._enricher.wanted():
            self._resolver.submit(artifact)
        for begun in self._enricher.begun():
            self._recogniser.begun(*begun)
        opened, written, passed_over = self._enricher.candidates()
        self._recogniser.written(written)
        self._recogniser.submit(opened)
        self._recogniser.pass_over(passed_over)
        # Before it can be stored: then nobody reads this batch again.
        self._keep()
        return rows

    def tell(self) -> None:
        """Hand identities that were found to the drainer, as records of a later batch, and the loads that nobody announced."""
        if self._channel.closed:
            # What is taken now reaches nobody: it stays on disk for the next sender.
            return
        if self._channel.backlog < MAX_BACKLOG:
            self._tell()
        self._channel.flush()
        if not self._channel.backlog and not self._channel.closed:
            self._keep()

    def _tell(self) -> None:
        for artifact, identity in self._resolver.results():
            self._enricher.bind(artifact.instance, identity)
            self._channel.record(identity_record(artifact.instance, artifact, identity))
        if files := self._resolver.registrations():
            self._channel.tell("artifacts", files)
        if found := self._recogniser.found():
            # Before the drainer hears of them: what the kernel side then tells of the load comes without their paths.
            self._enricher.recognised(found)
            for first in range(0, len(found), LATE_AT_ONCE):
                self._channel.tell("late", [[each.pid, each.tid, each.device, each.inode, each.group]
                                            for each in found[first : first + LATE_AT_ONCE]])

    def close(self) -> None:
        """End the processes that work for it."""
        self._keep(last=True)
        self._recogniser.close()
        self._resolver.close()
        self._enricher.close()

    def _keep(self, *, last: bool = False) -> None:
        self._unfinished.save(self._resolver.to_keep(), last=last)
        self._unrecognised.save(self._recogniser.unfinished(), last=last)

    def _forgotten(self) -> list[str]:
        count = self._enricher.evicted
        return [f"{count} processes were forgotten early, the table was full: chains below them are short"] if count else []
