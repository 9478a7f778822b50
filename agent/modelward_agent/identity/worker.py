"""Identifies the files of one load in a process of its own: ``python -m modelward_agent.identity.worker``.

It lives for one load. While it is still privileged it only resolves paths; before it looks into a file it gives up its
privileges for good, and its memory, time and right to make files are bounded. Who started it may kill it at any time: a file on
a hung file system blocks nobody else.

A job comes as a line of JSON on standard input, and twice an answer to what was found: which files to open, which to hash. What
it says goes to standard output, one JSON object a line: ``file`` for each that was found and ``found`` after them, ``facts`` for
each that was opened and ``looked`` after them, then ``read`` (progress), ``digest`` or ``error`` of each that is hashed.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
from dataclasses import asdict
from typing import Any

from modelward_agent.confinement import confine, end_with_starter
from modelward_agent.identity.formats import read_facts
from modelward_agent.identity.hashing import FileChanged, sha256
from modelward_agent.identity.header import Facts
from modelward_agent.identity.low_priority import yield_to_all
from modelward_agent.identity.opening import ArtifactError, readable
from modelward_agent.identity.survey import File, survey

_MEMORY = 1 << 30
_LINE = 32 << 20
_DESCRIPTORS = 4096
"""More than a job has files, and its neighbours."""


def main() -> int:
    """Do one job. Exit status 0 even when nothing could be read: that is an answer too."""
    yield_to_all()
    end_with_starter()
    with contextlib.suppress(OSError, ValueError):
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, _DESCRIPTORS), most))
    job = _hear()
    files = survey(job)
    for file in files:
        _say(file=file.told())
    _say(found=len(files))
    opened: dict[int, int] = {}
    for number in _hear()["open"]:
        if (fd := _open(files[number])) >= 0:
            opened[number] = fd
        else:
            _say(facts=number, error=files[number].error)
    try:
        size = sum(files[number].stamp[2] for number in opened)
        confine(sorted(opened.values()), memory=_MEMORY, cpu_s=120 + size // (50 << 20))
    except OSError as e:
        _say(failed=f"is not read: its reader cannot give up its privileges ({e.strerror})")
        return 0
    for number, fd in opened.items():
        try:
            facts = read_facts(fd, os.fstat(fd).st_size, files[number].path.rpartition(b"/")[2])
        except Exception as e:
            # One file that nobody foresaw must not keep the others of its load from being known.
            facts = Facts("unknown", problem=f"cannot be read: {type(e).__name__}")
        _say(facts=number, told=asdict(facts))
    _say(looked=True)
    for number in _hear()["hash"]:
        try:
            digest = sha256(opened[number], bytes_per_s=job["bytes_per_s"], progress=lambda read: _say(read=read))
        except (FileChanged, OSError, KeyError) as e:
            _say(error=str(e) if isinstance(e, FileChanged) else f"cannot be read: {e}", of=number)
        else:
            _say(digest=digest, of=number)
    return 0


def _open(file: File) -> int:
    """A descriptor to read it by; -1, and its error says why."""
    try:
        fd = readable(file.reference)
    except (ArtifactError, OSError) as e:
        file.error = str(e) if isinstance(e, ArtifactError) else f"cannot be opened: {e.strerror}"
        return -1
    return fd


def _hear() -> dict[str, Any]:
    line = sys.stdin.buffer.readline(_LINE)
    if not line:
        # Who asked is gone.
        sys.exit(0)
    heard: dict[str, Any] = json.loads(line)
    return heard


def _say(**answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
