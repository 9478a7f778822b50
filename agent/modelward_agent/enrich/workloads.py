"""What is remembered of a serving application: its container, its runtime, the folders of its models,
where it connected to."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from modelward_agent.enrich.containers import HOST, Container
from modelward_agent.enrich.gpus import joined
from modelward_agent.enrich.process_table import NO_KEY, Key
from modelward_agent.enrich.runtime import Runtime, join, shown

Kind = tuple[str, str, str, bool, bool]
"""What processes that run the same have in common, see :mod:`modelward_agent.enrich.walking`."""

_FOLDERS = 64
_HOLDERS = 256
_ENDPOINTS = 4096
# Folders in which anything may lie: a model there does not make its neighbours part of the model.
_SHARED = frozenset(
    (
        b"",
        b"/",
        b"/tmp",
        b"/var/tmp",
        b"/dev/shm",
        b"/root",
        b"/home",
        b"/etc",
        b"/usr",
        b"/var",
        b"/opt",
    )
)


@dataclass(slots=True)
class Workload:
    """One server group of the kernel. Groups of one container share ``id``."""

    root: Key = NO_KEY
    id: str = ""
    container: Container = HOST
    root_sought: bool = False
    settled: bool = False
    """The container is known, or it is known that there is none."""
    server: Runtime = field(default_factory=Runtime)
    runtime: str = ""
    runtime_version: str = ""
    gpus: str = ""
    kinds: dict[Kind, None] = field(default_factory=dict)
    """Of its processes, those of which it is known what they run, or is being looked for."""
    gpu_holders: dict[Key, tuple[str, ...]] = field(default_factory=dict)
    model_folders: dict[bytes, None] = field(default_factory=dict)

    def runs(self, found: Runtime) -> None:
        """A process of it was found to run this."""
        joint = join(self.server, found)
        if joint != self.server:
            self.server = joint
            self.runtime, self.runtime_version = shown(joint)

    def holds(self, process: Key, gpus: tuple[str, ...], alive: Callable[[Key], bool]) -> None:
        """A process of it has these GPU devices open."""
        if not gpus and not self.gpu_holders:
            return
        holders = {key: held for key, held in self.gpu_holders.items() if alive(key)} | {process: gpus}
        self.gpu_holders = dict(list(holders.items())[-_HOLDERS:])
        self.gpus = joined(list(self.gpu_holders.values()))


class Workloads:
    """Bounded: the longest unused groups and endpoints are forgotten first."""

    def __init__(self, *, limit: int = 4096) -> None:
        self._limit = limit
        self._groups: OrderedDict[int, Workload] = OrderedDict()
        self._endpoints: OrderedDict[str, OrderedDict[str, int]] = OrderedDict()

    def of(self, group: int, root: Key) -> Workload:
        """The workload of a group; 0, which is no group, has an empty one."""
        if not group:
            return Workload(settled=True)
        workload = self._groups.get(group)
        if workload is None:
            workload = self._groups[group] = Workload(root)
            if len(self._groups) > self._limit:
                self._groups.popitem(last=False)
        else:
            self._groups.move_to_end(group)
        return workload

    def loaded(self, workload: Workload, path: bytes) -> None:
        """It loaded a model from this file."""
        folder = os.path.dirname(path)
        if folder in _SHARED or folder in workload.model_folders:
            return
        if len(workload.model_folders) >= _FOLDERS:
            del workload.model_folders[next(iter(workload.model_folders))]
        workload.model_folders[folder] = None
        # A Hugging Face cache keeps names and content of one model in sibling folders.
        for name in (b"/blobs", b"/snapshots/"):
            at = folder.find(name)
            if at > 0 and b"/models--" in folder[:at]:
                workload.model_folders[folder[:at]] = None

    def first_connect(self, workload_id: str, endpoint: str, time_ns: int) -> int:
        """Time of the workload's first connect to an endpoint: the given one if it is new.

        The time is kept, not a mark, so that a batch enriched again after a lost ack says the same.
        """
        known = self._endpoints.setdefault(workload_id, OrderedDict())
        self._endpoints.move_to_end(workload_id)
        if len(self._endpoints) > self._limit:
            self._endpoints.popitem(last=False)
        first = min(known.get(endpoint, time_ns), time_ns)
        known[endpoint] = first
        known.move_to_end(endpoint)
        if len(known) > _ENDPOINTS:
            known.popitem(last=False)
        return first
