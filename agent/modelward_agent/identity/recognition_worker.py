"""Looks whether files are models, in a process of its own: ``python -m modelward_agent.identity.recognition_worker``.

Like :mod:`.worker`: while it is privileged it only resolves paths and opens regular files; before it looks into one it gives up
its privileges for good. Its files are of one workload, so that one which hangs or kills it takes nothing from others.

A job comes as a line of JSON on standard input. What it says goes to standard output, one JSON object a line, as soon as it is
known: ``of``, the file's number, and ``stamp`` (size, mtime, ctime; empty when it was not found), ``format`` (empty: no model),
``device`` and ``inode`` as the kernel's records have them.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import stat
import sys
from pathlib import Path
from typing import Any

from modelward_agent.confinement import confine, end_with_starter
from modelward_agent.identity.file_systems import has_own_devices
from modelward_agent.identity.low_priority import yield_to_all
from modelward_agent.identity.opening import (
    ArtifactError,
    ArtifactGone,
    Place,
    find_artifact,
    held_artifact,
    lives,
    places,
    readable,
)
from modelward_agent.identity.recognition import LEAST, recognise

_MEMORY = 1 << 30
_CPU_S = 30
_LINE = 8 << 20
_DESCRIPTORS = 1024
_HELD = 8
"""Files without a path that are looked for among what their process holds: each costs a look at all of that."""


class _Finder:
    """Finds files of processes, each of which is looked up once."""

    def __init__(self, proc: Path) -> None:
        self._proc = proc
        self._places: dict[tuple[int, int], list[Place]] = {}
        self._held = 0

    def find(self, told: dict[str, Any]) -> int:
        """A reference. Raises ArtifactError, OSError."""
        key, device, inode = (told["pid"], told["start_ns"]), told["device"], told["inode"]
        if key not in self._places:
            # Of a process that is gone there is nothing to begin a load in.
            self._places[key] = places(*key, self._proc) if lives(*key, self._proc) else []
        path, asked = bytes.fromhex(told["path"]), bytes.fromhex(told["asked"])
        for place in self._places[key]:
            for name in (asked if asked.startswith(b"/") else b"", path):
                if not name:
                    continue
                with contextlib.suppress(ArtifactError, OSError):
                    return find_artifact(place, name, device, inode) if inode else place.reference(name)
        if not self._places[key] or not inode or self._held >= _HELD:
            raise ArtifactGone("is gone")
        self._held += 1
        return held_artifact(*key, device, inode, self._proc)


def main() -> int:
    """Do one job."""
    end_with_starter()
    yield_to_all()
    with contextlib.suppress(OSError, ValueError):
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, _DESCRIPTORS), most))
    job = json.loads(sys.stdin.buffer.readline(_LINE) or b'{"files": []}')
    finder = _Finder(Path(job.get("proc", "/proc")))
    opened: dict[int, tuple[int, dict[str, Any]]] = {}
    for number, told in enumerate(job["files"]):
        try:
            reference = finder.find(told)
        except (ArtifactError, OSError):
            _say(of=number, stamp=[], format="")
            continue
        try:
            answer = _described(number, reference, told)
            if answer["stamp"] == told["stamp"] or answer["stamp"][0] < LEAST or not answer["inode"]:
                _say(**answer)
            else:
                opened[readable(reference)] = number, answer
        except (ArtifactError, OSError):
            _say(of=number, stamp=[], format="")
        finally:
            os.close(reference)
    try:
        confine(sorted(opened), memory=_MEMORY, cpu_s=_CPU_S)
    except OSError as e:
        _say(failed=f"is not read: its reader cannot give up its privileges ({e.strerror})")
        return 0
    for fd, (_, answer) in sorted(opened.items(), key=lambda each: each[1][0]):
        with contextlib.suppress(Exception):
            # One file that nobody foresaw must not keep the others from being looked at.
            answer["format"] = recognise(fd, answer["stamp"][0])
        _say(**answer)
    return 0


def _described(number: int, reference: int, told: dict[str, Any]) -> dict[str, Any]:
    """What is known of a file without reading it. Its inode is 0 where the kernel's name of it cannot be told."""
    about = os.fstat(reference)
    device, inode = told["device"], told["inode"]
    if not stat.S_ISREG(about.st_mode):
        raise ArtifactGone("is no regular file")
    if not inode and not has_own_devices(reference):
        device, inode = os.major(about.st_dev) << 20 | os.minor(about.st_dev), about.st_ino
    return {
        "of": number, "stamp": [about.st_size, about.st_mtime_ns, about.st_ctime_ns],
        "format": told["format"] if [about.st_size, about.st_mtime_ns, about.st_ctime_ns] == told["stamp"] else "",
        "device": device, "inode": inode,
    }  # fmt: skip


def _say(**answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
