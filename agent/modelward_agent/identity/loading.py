"""One load while it is identified: its artifacts, what was found of them, and what was told already."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelward_proto.text import escape

from modelward_agent.identity import members
from modelward_agent.identity.artifact import Artifact, Identity, told_identity
from modelward_agent.identity.composing import Found, Model, joint_digest
from modelward_agent.identity.formats import format_by_extension
from modelward_agent.identity.header import Facts
from modelward_agent.identity.known import Content, Known, Stamp, told_facts
from modelward_agent.identity.opening import lives
from modelward_agent.identity.sources import find_source
from modelward_agent.identity.worker_process import WorkerProcess

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Load:
    """A model instance. Shared by the threads of the resolver, changed under its lock."""

    artifacts: list[Artifact]
    found: list[Found] = field(default_factory=list)
    model: Model = field(default_factory=Model)
    digests: dict[Stamp, str] = field(default_factory=dict)
    """Of its files, those that must not be remembered for others too."""
    told: Identity | None = None
    warned: str = ""
    problem: str = ""
    """What went wrong after it was put together."""
    looked: int = 0
    """So many of its artifacts were looked at."""
    refused: int = 0
    """So many of its artifacts were turned away at least once."""
    again: bool = False
    """A worker that read it was silent once, and it was tried once more."""
    queued: bool = False
    done: bool = False
    false: bool = False
    """It was told that a file of it goes by the sha256 of other content."""
    placed: float = 0.0
    """Since when it is to be hashed, by the clock of ``time.monotonic``."""
    alone: float = 0.0
    """When it would be hashed if no other were there."""
    due: float = 0.0
    """When it would be if only those of its workload were there, the least of them first."""

    @property
    def first(self) -> Artifact:
        return self.artifacts[0]

    @property
    def workload(self) -> str:
        return self.first.workload

    @property
    def overflow(self) -> bool:
        """It has more artifacts than are read."""
        return len(self.artifacts) > members.FILES

    def may_try_again(self, proc: str) -> bool:
        """After a worker was silent: whoever loaded it lives, and it is the first time. Called under the lock."""
        if self.again or not lives(self.first.pid, self.first.start_ns, Path(proc)):
            return False
        self.again = True
        return True

    def covers(self, artifact: Artifact) -> bool:
        """Whether a file is known to be a part of it already."""
        own = (artifact.path, artifact.device, artifact.inode)
        if any((each.path, each.device, each.inode) == own for each in self.artifacts):
            return True
        parts = (self.found[number] for number in self.model.files)
        return any((part.device, part.stamp[1]) == own[1:] for part in parts)

    def files(self) -> Iterator[Found]:
        """What the digest is made of."""
        for number in self.model.files:
            yield self.found[number]

    def unread(self, known: Known) -> list[Found]:
        """Files whose content nobody hashed."""
        return [file for file in self.files() if not self.content(file, known)]

    def content(self, file: Found, known: Known) -> str:
        """Digest of what a file holds, once it was hashed."""
        return self.digests.get(file.stamp) or known.get(file.stamp).digest

    def false_names(self, known: Known) -> list[Found]:
        """Files that lie in a cache under the sha256 of something else."""
        return [file for file in self.files() if file.promised and self.content(file, known) not in ("", file.promised)]

    def identity(self, known: Known) -> Identity:
        """As far as it is known now. A digest is one of what was read: a name that a cache gave a file is no proof."""
        digests = [self.content(file, known) for file in self.files()]
        whole = bool(digests) and all(digests) and not self.model.problem and not self.problem
        members_told = self.model.identity or by_path(self.first)
        return told_identity(self.first.path, {**members_told, "digest": joint_digest(digests) if whole else ""})


def job(load: Load, also: Sequence[bytes], *, neighbours: bool, proc: str, bytes_per_s: int) -> dict[str, Any]:
    """What a worker is asked for. ``also``: files to look for besides the artifacts."""
    first = load.first
    return {
        "pid": first.pid, "start_ns": first.start_ns, "proc": proc, "bytes_per_s": bytes_per_s, "neighbours": neighbours,
        "also": [path.hex() for path in also],
        "artifacts": [
            {"path": each.path.hex(), "asked": each.asked.hex(), "device": each.device, "inode": each.inode}
            for each in load.artifacts[: members.FILES]
        ],
    }  # fmt: skip


def find(worker: WorkerProcess) -> list[Found]:
    """The files that a worker finds. Raises WorkerFailed, KeyError, TypeError, ValueError."""
    return [Found.told(answer["file"]) for answer in worker.answers("found") if "file" in answer]


def read_facts(worker: WorkerProcess, found: Sequence[Found]) -> tuple[dict[int, Facts], dict[int, str]]:
    """What the files that it opened say of themselves, and why others were not opened."""
    facts: dict[int, Facts] = {}
    errors: dict[int, str] = {}
    for answer in worker.answers("looked"):
        if "facts" not in answer or not 0 <= int(answer["facts"]) < len(found):
            continue
        if "told" in answer:
            facts[int(answer["facts"])] = told_facts(answer["told"])
        else:
            errors[int(answer["facts"])] = str(answer.get("error", ""))
    return facts, errors


def remember(load: Load, known: Known, file: Found, digest: str) -> None:
    """A file was hashed."""
    load.digests[file.stamp] = digest
    if file.kept:
        known.put(file.stamp, Content(known.get(file.stamp).facts, digest))


def by_path(artifact: Artifact) -> Mapping[str, str]:
    """What can be said without reading the file."""
    source = find_source(artifact.path, artifact.asked, None)
    extension = artifact.path.rpartition(b".")[2].lower().decode("ascii", "replace")
    return {
        "id": escape(source.name),
        "revision": escape(source.revision),
        "format": format_by_extension(extension),
        "source": source.kind,
    }


def tell(load: Load, identity: Identity, known: Known) -> None:
    """Say in the log what an instance is, or why that is not known whole."""
    if not load.false:
        for file in load.false_names(known):
            # A cache names a file by its content: other content was put there by something else than a download.
            load.false = True
            log.warning("artifact is not what its cache says", extra={
                "path": escape(file.path), "digest": load.content(file, known), "promised": escape(file.promised[:64].encode())})
    about = {"path": identity.path, "model": identity.id, "instance": load.first.instance}
    problem = load.problem or load.model.problem or load.model.doubt
    if problem and problem != load.warned:
        load.warned = problem
        log.warning("artifact identified in part: %s", escape(problem[:200].encode("utf-8", "surrogateescape")), extra=about)
    if identity.digest:
        log.info("model identified", extra={**about, "digest": identity.digest, "format": identity.format})
