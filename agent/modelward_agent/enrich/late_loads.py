"""Loads that user space found: the kernel side tells of them by device and inode alone, and which path that was is known here."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from modelward_proto.fields import Kind
from modelward_proto.text import escape

from modelward_agent.enrich.attribution import Who
from modelward_agent.enrich.rows import Rows
from modelward_agent.enrich.workloads import Workloads
from modelward_agent.identity.artifact import Artifact
from modelward_agent.identity.recogniser import File, Opened
from modelward_agent.sensor.constants import Segment, Trigger

Column = npt.NDArray[Any]

_NAMES = 4096
_UNNAMED, _UNNAMED_EACH = 256, 64
"""Files of which a load began and the path is not known, and loads of one of them."""

Begun = tuple[str, int, File, int]
"""Workload, group, file and process of a load."""


class LateLoads:
    """Names what began such a load, in rows and for identification."""

    def __init__(self) -> None:
        self._names: OrderedDict[tuple[int, File], tuple[bytes, bytes]] = OrderedDict()
        self._unnamed: OrderedDict[tuple[int, File], OrderedDict[int, Artifact]] = OrderedDict()
        self._waiting: list[Artifact] = []
        self._begun: list[Begun] = []

    def recognised(self, found: Iterable[Opened]) -> None:
        """These are models: a load may begin with each."""
        for opened in found:
            key = (opened.group, (opened.device, opened.inode))
            self._names[key] = (opened.path, opened.asked)
            self._names.move_to_end(key)
            if len(self._names) > _NAMES:
                self._names.popitem(last=False)
            # The sender before told the drainer, and did not live to hear of the load.
            for unnamed in self._unnamed.pop(key, OrderedDict[int, Artifact]()).values():
                self._waiting.append(replace(unnamed, path=opened.path, asked=opened.asked))

    def take(self) -> list[Artifact]:
        """Artifacts found since the last call."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def begun(self) -> list[Begun]:
        """Loads that :meth:`take` gave, or gives with its next call, and that were not told of here before."""
        begun, self._begun = self._begun, []
        return begun

    def find(self, rows: Rows, whos: list[Who], run: Column, workloads: Workloads) -> None:
        """Take note of a batch's loads."""
        begun = (rows.kind == Kind.LIFECYCLE) & (rows.column("trigger") == int(Trigger.LATE)) & (rows.column("instance") != 0)
        for row in np.flatnonzero(begun & (rows.column("artifact_inode") != 0)).tolist():
            who, key = whos[run[row]], self._key(rows, row)
            path, asked = self._names.get(key, (b"", b""))
            artifact = Artifact(
                instance=rows.member("instance", row), pid=rows.member("tgid", row), start_ns=rows.member("start_ns", row),
                path=path, asked=asked, device=key[1][0], inode=key[1][1], time_ns=int(rows.time_ns[row]),
                header=rows.header(row), workload=who.workload_id)
            if path:
                self._waiting.append(artifact)
                self._begun.append((who.workload_id, *key, artifact.pid))
                if who.workload is not None:
                    workloads.loaded(who.workload, path)
            else:
                of_file = self._unnamed.setdefault(key, OrderedDict())
                of_file[artifact.instance] = artifact
                if len(of_file) > _UNNAMED_EACH:
                    of_file.popitem(last=False)
                if len(self._unnamed) > _UNNAMED:
                    self._unnamed.popitem(last=False)

    def named(self, rows: Rows, paths: pa.Array) -> pa.Array:
        """``paths`` (of ``file.path``) with those of the rows of such loads."""
        if not self._names:
            return paths
        of_load = (rows.kind == Kind.LIFECYCLE) & (rows.column("artifact_inode") != 0) & (rows.spans(Segment.PATH)[1] == 0)
        found = {row: name[0] for row in np.flatnonzero(of_load).tolist() if (name := self._names.get(self._key(rows, row)))}
        if not found:
            return paths
        texts = paths.to_pylist()
        for row, path in found.items():
            texts[row] = escape(path)
        return pa.array(texts, paths.type)

    @staticmethod
    def _key(rows: Rows, row: int) -> tuple[int, File]:
        return rows.member("group", row), (rows.member("artifact_device", row), rows.member("artifact_inode", row))
