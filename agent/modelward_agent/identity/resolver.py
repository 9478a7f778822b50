"""Identifies artifacts in the background: one at a time, each in a process that may hang or die."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
from collections import OrderedDict, deque
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from modelward_proto.text import escape

from modelward_agent.identity.artifact import Artifact, Identity, told_identity
from modelward_agent.identity.formats import format_by_extension
from modelward_agent.identity.record import identity_record as identity_record
from modelward_agent.identity.sources import find_source
from modelward_agent.identity.worker_process import WorkerFailed, WorkerProcess

log = logging.getLogger(__name__)

_WAITING = 1024
_RESULTS = 4096
_CACHED = 4096
_LARGE = 256 << 20
"""Larger files are named at once and get their digest by a second result: hashing them takes long."""


@dataclass(slots=True)
class _Known:
    """What was found in a file whose size, mtime and ctime were ``stamp``."""

    stamp: list[int] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    digest: str = ""


class Resolver:
    """Takes artifacts and gives identities back; never blocks its caller, never raises over an artifact.

    What was found is remembered for (device, inode, size, mtime, ctime), in memory alone: the second instance
    of a model costs no reading. ctime is part of it because a workload can set mtime as it likes.
    """

    def __init__(self, *, proc: Path = Path("/proc"), bytes_per_s: int = 256 << 20, silence_s: float = 30.0) -> None:
        """``silence_s``: a worker that says nothing for so long is killed."""
        self._proc = proc
        self._bytes_per_s = bytes_per_s
        self._silence_s = silence_s
        self._waiting: queue.Queue[Artifact | None] = queue.Queue(_WAITING)
        self._results: deque[tuple[Artifact, Identity]] = deque(maxlen=_RESULTS)
        self._unfinished: dict[int, Artifact] = {}
        self._done: deque[int] = deque()
        self._known: OrderedDict[tuple[int, int], _Known] = OrderedDict()
        self._closing = threading.Event()
        self._worker: WorkerProcess | None = None
        self.refused = 0
        """Artifacts that were not read because too many waited."""
        self._thread = threading.Thread(target=self._run, name="identity", daemon=True)
        self._thread.start()

    def submit(self, artifact: Artifact) -> None:
        """Ask for an artifact's identity, once for its instance. When too many wait already, it gets the one that its path
        tells."""
        if artifact.instance in self._unfinished:
            return
        self._unfinished[artifact.instance] = artifact
        try:
            self._waiting.put_nowait(artifact)
        except queue.Full:
            self.refused += 1
            self._results.append((artifact, _by_path(artifact)))
            self._done.append(artifact.instance)

    def results(self) -> list[tuple[Artifact, Identity]]:
        """Identities found since the last call. A large file comes twice: at first without its digest."""
        found: list[tuple[Artifact, Identity]] = []
        # Done is said after the last result: what is done now is all in the results.
        done = [self._done.popleft() for _ in range(len(self._done))]
        while self._results:
            found.append(self._results.popleft())
        for instance in done:
            self._unfinished.pop(instance, None)
        return found

    def unfinished(self) -> list[Artifact]:
        """Those of which the last result was not taken yet, in the order in which they were asked for."""
        return list(self._unfinished.values())

    def close(self) -> None:
        """Stop; what still waits is not identified."""
        self._closing.set()
        if (worker := self._worker) is not None:
            worker.kill()
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(None)
        self._thread.join(10)

    def _run(self) -> None:
        while not self._closing.is_set():
            artifact = self._waiting.get()
            if artifact is None or self._closing.is_set():
                return
            try:
                self._identify(artifact)
            except Exception:
                # The thread outlives whatever one artifact does: the next one may be an honest model.
                log.exception("artifact not identified", extra={"path": escape(artifact.path)})
                self._results.append((artifact, _by_path(artifact)))
            self._done.append(artifact.instance)

    def _identify(self, artifact: Artifact) -> None:
        key = (artifact.device, artifact.inode)
        known = self._known.get(key, _Known())
        found, identity, problem = _Known(), _by_path(artifact), ""
        worker = self._worker = WorkerProcess(self._job(artifact, known))
        try:
            if self._closing.is_set():
                return
            for answer in worker.answers(self._silence_s):
                if "stamp" in answer:
                    found = replace(known) if answer.get("known") else _Known(answer["stamp"])
                elif "identity" in answer:
                    identity = told_identity(artifact.path, answer["identity"])
                    found.facts = answer["facts"]
                    if found.stamp[0] > _LARGE and not found.digest:
                        self._results.append((artifact, identity))
                elif "digest" in answer:
                    found.digest = str(answer["digest"])
                    _compare(artifact, found.digest, str(answer.get("promised", "")))
                elif "error" in answer:
                    problem = str(answer["error"])
        except (WorkerFailed, OSError) as e:
            problem = str(e)
        finally:
            self._worker = None
            worker.close()
        if self._closing.is_set():
            return
        identity = told_identity(artifact.path, asdict(identity) | {"digest": found.digest})
        if identity.digest:
            self._known[key] = found
            self._known.move_to_end(key)
            if len(self._known) > _CACHED:
                self._known.popitem(last=False)
        _tell(artifact, identity, problem or found.facts.get("problem", ""))
        self._results.append((artifact, identity))

    def _job(self, artifact: Artifact, known: _Known) -> dict[str, Any]:
        return {
            "pid": artifact.pid,
            "start_ns": artifact.start_ns,
            "path": artifact.path.hex(),
            "asked": artifact.asked.hex(),
            "device": artifact.device,
            "inode": artifact.inode,
            "proc": os.fspath(self._proc),
            "bytes_per_s": self._bytes_per_s,
            "stamp": known.stamp,
            "facts": known.facts,
        }


def _compare(artifact: Artifact, digest: str, promised: str) -> None:
    """A cache names a file by its content: other content was put there by something else than a download."""
    if promised and promised != digest:
        log.warning(
            "artifact is not what its cache says",
            extra={
                "path": escape(artifact.path),
                "digest": digest,
                "promised": escape(promised[:64].encode()),
            },
        )


def _tell(artifact: Artifact, identity: Identity, problem: str) -> None:
    about = {"path": identity.path, "model": identity.id, "instance": artifact.instance}
    if problem:
        log.warning("artifact identified in part: %s", escape(problem[:200].encode()), extra=about)
    else:
        log.info("model identified", extra={**about, "digest": identity.digest, "format": identity.format})


def _by_path(artifact: Artifact) -> Identity:
    """What can be said without reading the file."""
    source = find_source(artifact.path, artifact.asked, None)
    extension = artifact.path.rpartition(b".")[2].lower().decode("ascii", "replace")
    return told_identity(
        artifact.path,
        {
            "id": escape(source.name),
            "revision": escape(source.revision),
            "format": format_by_extension(extension),
            "source": source.kind,
        },
    )
