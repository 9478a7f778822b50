"""Identifies one artifact in a process of its own: ``python -m modelward_agent.identity.worker``.

It lives for one file. While it is still privileged it only resolves paths; before it looks into the file it
gives up its privileges for good, and its memory, time and right to make files are bounded. Who started it
may kill it at any time: a file on a hung file system blocks nobody else.

A job comes as JSON on standard input; answers go to standard output, one JSON object a line: ``stamp``,
``identity``, ``read`` (progress), ``digest``, or ``error``.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from modelward_proto.text import escape

from modelward_agent import privileges
from modelward_agent.identity.formats import read_facts
from modelward_agent.identity.hashing import FileChanged, sha256
from modelward_agent.identity.header import Facts
from modelward_agent.identity.opening import (
    ArtifactChanged,
    ArtifactError,
    Place,
    find_artifact,
    held_artifact,
    places,
    readable,
)
from modelward_agent.identity.sources import find_source

_NOBODY = 65534
_MEMORY = 1 << 30
_DESCRIPTORS = 1024
"""More than it ever has."""


def main() -> int:
    """Do one job. Exit status 0 even when the artifact could not be read: that is an answer too."""
    job = json.loads(sys.stdin.buffer.read(1 << 20))
    os.nice(19)
    path, asked = bytes.fromhex(job["path"]), bytes.fromhex(job["asked"])
    try:
        reference, place = _find(job, path, asked)
        source = find_source(path, asked, place)
        about = os.fstat(reference)
        stamp = [about.st_size, about.st_mtime_ns, about.st_ctime_ns]
        # A file that was read before is not opened again: to another agent on this host that would be a load.
        known = job["stamp"] == stamp
        fd = -1 if known else readable(reference)
    except (ArtifactError, OSError) as e:
        _say(error=str(e))
        return 0
    try:
        _confine(about.st_size, fd)
    except OSError as e:
        _say(error=f"is not read: its reader cannot give up its privileges ({e.strerror})")
        return 0
    _say(stamp=stamp, known=known)
    facts = Facts(**job["facts"]) if known else read_facts(fd, about.st_size, path.rpartition(b"/")[2])
    own = escape(source.name)
    _say(
        identity={
            "id": own if source.certain else facts.name or own,
            "revision": escape(source.revision) or facts.revision,
            "format": facts.format,
            "source": source.kind,
        },
        facts=asdict(facts),
    )
    if known:
        return 0
    try:
        digest = sha256(fd, bytes_per_s=job["bytes_per_s"], progress=lambda read: _say(read=read))
    except (FileChanged, OSError) as e:
        _say(error=str(e))
        return 0
    _say(digest=digest, promised=source.digest.decode())
    return 0


def _find(job: dict[str, Any], path: bytes, asked: bytes) -> tuple[int, Place]:
    """A reference to the artifact below the first root where it is found, and that root."""
    pid, start_ns, proc = job["pid"], job["start_ns"], Path(job["proc"])
    numbers = (job["device"], job["inode"])
    failed: ArtifactError = ArtifactError("has no path")
    roots = places(pid, start_ns, proc)
    for place in roots:
        for name in (path, asked if asked.startswith(b"/") else b""):
            if not name:
                continue
            try:
                return find_artifact(place, name, *numbers), place
            except ArtifactError as e:
                # That something else is there now says more than that there is nothing.
                failed = failed if isinstance(failed, ArtifactChanged) else e
    try:
        return held_artifact(pid, start_ns, *numbers, proc), roots[0]
    except ArtifactError:
        raise failed from None


def _confine(size: int, fd: int) -> None:
    """Give up what is not needed to read one open file: no user, group or capability of the host, no other descriptor.

    Raises:
        OSError: the privileges cannot be given up.
    """
    seconds = 120 + size // (50 << 20)
    for limit, value in (
        (resource.RLIMIT_AS, _MEMORY),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 32),
    ):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(limit, (value, value))
    os.closerange(3, max(fd, 3))
    os.closerange(max(fd + 1, 3), _DESCRIPTORS)
    if os.geteuid() == 0:
        privileges.shed_all()
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    privileges.confine()


def _say(**answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
