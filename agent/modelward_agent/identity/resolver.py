"""Identifies artifacts in the background: one at a time, each in a process that may hang or die without
harm."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import selectors
import subprocess
import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelward_proto.text import escape

from modelward_agent.identity.artifact import Artifact, Identity, told_identity
from modelward_agent.identity.formats import format_by_extension
from modelward_agent.identity.record import identity_record as identity_record
from modelward_agent.identity.sources import find_source

log = logging.getLogger(__name__)

_WAITING = 1024
_RESULTS = 4096
_CACHED = 4096
_LINE = 1 << 16
_LARGE = 256 << 20
"""Larger files are named at once and get their digest by a second result: hashing them takes long."""


class WorkerFailed(Exception):
    """The worker died, was silent for too long, or said what is no answer."""


class Resolver:
    """Takes artifacts and gives identities back; never blocks its caller, never raises for an artifact.

    A digest is remembered for (device, inode, size, mtime, ctime), in memory alone: the second instance of
    a model costs no reading. ctime is
    part of it because a workload can set mtime as it likes.
    """

    def __init__(
        self, *, proc: Path = Path("/proc"), bytes_per_s: int = 256 << 20, silence_s: float = 30.0
    ) -> None:
        self._proc = proc
        self._bytes_per_s = bytes_per_s
        self._silence_s = silence_s
        self._waiting: queue.Queue[Artifact | None] = queue.Queue(_WAITING)
        self._results: deque[tuple[Artifact, Identity]] = deque(maxlen=_RESULTS)
        self._digests: OrderedDict[tuple[int, int], tuple[list[int], str]] = OrderedDict()
        self._closing = threading.Event()
        self._worker: subprocess.Popen[bytes] | None = None
        self.refused = 0
        """Artifacts that were not identified because too many waited."""
        self._thread = threading.Thread(target=self._run, name="identity", daemon=True)
        self._thread.start()

    def submit(self, artifact: Artifact) -> None:
        """Ask for an artifact's identity. When too many wait already, it gets the one that its path tells."""
        try:
            self._waiting.put_nowait(artifact)
        except queue.Full:
            self.refused += 1
            self._results.append((artifact, _by_path(artifact)))

    def results(self) -> list[tuple[Artifact, Identity]]:
        """Identities found since the last call. A large file comes twice: named first, later with its
        digest."""
        found: list[tuple[Artifact, Identity]] = []
        while self._results:
            found.append(self._results.popleft())
        return found

    def close(self) -> None:
        """Stop; what still waits is not identified."""
        self._closing.set()
        worker = self._worker
        if worker is not None:
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

    def _identify(self, artifact: Artifact) -> None:
        identity = _by_path(artifact)
        problem, digest, about = "", "", [0, 0, 0]
        known = self._digests.get((artifact.device, artifact.inode))
        try:
            for answer in self._answers(artifact, known[0] if known else []):
                if isinstance(opened := answer.get("opened"), dict):
                    about = [int(opened.get(name, 0)) for name in ("size", "mtime_ns", "ctime_ns")]
                elif "identity" in answer:
                    identity = told_identity(artifact.path, answer["identity"])
                    problem = str(answer.get("problem", ""))
                    if about[0] > _LARGE and not (known and known[0] == about):
                        self._results.append((artifact, identity))
                elif "digest" in answer:
                    digest = known[1] if known and answer["digest"] == "known" else str(answer["digest"])
                    self._compare(artifact, digest, str(answer.get("promised", "")))
                elif "error" in answer:
                    problem = str(answer["error"])
        except (WorkerFailed, OSError) as e:
            problem = str(e)
        if self._closing.is_set():
            return
        complete = told_identity(
            artifact.path,
            {
                "id": identity.id,
                "revision": identity.revision,
                "digest": digest,
                "format": identity.format,
                "source": identity.source,
            },
        )
        if complete.digest:
            self._digests[artifact.device, artifact.inode] = (about, complete.digest)
            self._digests.move_to_end((artifact.device, artifact.inode))
            if len(self._digests) > _CACHED:
                self._digests.popitem(last=False)
        extra = {"path": complete.path, "model": complete.id, "instance": artifact.instance}
        if problem:
            log.warning("artifact identified in part: it %s", escape(problem[:200].encode()), extra=extra)
        else:
            log.info("model identified", extra={**extra, "digest": complete.digest})
        self._results.append((artifact, complete))

    @staticmethod
    def _compare(artifact: Artifact, digest: str, promised: str) -> None:
        """A cache names a file by its content: another content was put there by something else than a
        download."""
        if promised and digest and promised != digest:
            log.warning(
                "artifact is not what its cache says",
                extra={
                    "path": escape(artifact.path),
                    "digest": digest,
                    "promised": escape(promised[:64].encode()),
                },
            )

    def _answers(self, artifact: Artifact, known: list[int]) -> Iterator[dict[str, Any]]:
        """What the worker says of an artifact. It is killed when it is silent for too long."""
        job = {
            "pid": artifact.pid,
            "start_ns": artifact.start_ns,
            "path": artifact.path.hex(),
            "asked": artifact.asked.hex(),
            "device": artifact.device,
            "inode": artifact.inode,
            "proc": os.fspath(self._proc),
            "bytes_per_s": self._bytes_per_s,
            "known": known,
        }
        worker = subprocess.Popen(
            [sys.executable, "-P", "-m", "modelward_agent.identity.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={key: os.environ[key] for key in ("PATH", "PYTHONPATH", "LANG") if key in os.environ},
        )
        self._worker = worker
        try:
            if self._closing.is_set():
                return
            assert worker.stdin is not None
            assert worker.stdout is not None
            worker.stdin.write(json.dumps(job).encode())
            worker.stdin.close()
            for line in _lines(worker.stdout.fileno(), self._silence_s):
                try:
                    answer = json.loads(line)
                except ValueError as e:
                    raise WorkerFailed("made its worker say what is no answer") from e
                if isinstance(answer, dict):
                    yield answer
            if (status := worker.wait(self._silence_s)) != 0 and not self._closing.is_set():
                raise WorkerFailed(f"made its worker end with status {status}")
        except (BrokenPipeError, subprocess.TimeoutExpired) as e:
            raise WorkerFailed("made its worker end early or hang") from e
        finally:
            self._worker = None
            worker.kill()
            worker.wait()
            for pipe in (worker.stdin, worker.stdout):
                if pipe is not None:
                    pipe.close()


def _lines(fd: int, silence_s: float) -> Iterator[bytes]:
    """Lines from a pipe, each in time and of bounded length."""
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        while True:
            if not selector.select(silence_s):
                raise WorkerFailed(f"could not be read: nothing came for {silence_s:g} s")
            data = os.read(fd, _LINE)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > _LINE:
                raise WorkerFailed("made its worker say what is no answer")
            yield from lines


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
