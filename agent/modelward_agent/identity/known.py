"""What was found in files before, on disk: a restarted agent does not hash a model again.

An entry stands for (device, inode, size, mtime, ctime). ctime is part of it because a workload can set mtime as it likes.
Workloads choose what files say of themselves, so entries are bounded in number and in bytes, in memory and on disk.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import threading
import time
from collections import OrderedDict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from modelward_agent.identity.header import Facts

log = logging.getLogger(__name__)

Stamp = tuple[int, ...]
"""st_dev, inode, size, mtime, ctime."""

_KEPT = 4096
_MEMORY = 8 << 20
"""Bytes of all entries together, as they are written; what they take in memory is some times that."""
_DISK = 2 * _MEMORY + (1 << 20)
"""Bytes of the file. When it is written anew it holds what is in memory, and half of it is free again."""
_ENTRY = 1 << 16
"""Bytes of one entry; of a larger one only the digest is kept."""
_RETRY_S = 60.0
"""After a disk refused, it is left alone for so long."""
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(slots=True)
class Content:
    """What a file holds, as far as it was read."""

    facts: Facts | None = None
    digest: str = ""


class Known:
    """A cache in memory, and of what was hashed a file that :meth:`save` adds lines to. May be used by several threads."""

    def __init__(self, path: Path | None, boot_id: str = "") -> None:
        """``path``: None keeps nothing on disk."""
        self._path = path
        self._boot_id = boot_id
        self._contents: OrderedDict[Stamp, Content] = OrderedDict()
        self._sizes: dict[Stamp, int] = {}
        self._bytes = 0
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        """Held over what the disk does; never by whoever holds the other one."""
        self._unwritten: list[bytes] = []
        self._anew = False
        """What is on disk is not to be added to, but to be replaced by what is in memory."""
        self._again_at = 0.0
        self._lines = 0
        self._written = 0
        if path is not None:
            self._load(path)

    def get(self, stamp: Stamp) -> Content:
        """What is known of a file with this stamp; an empty one when nothing is."""
        return self._contents.get(stamp, Content())

    def put(self, stamp: Stamp, content: Content) -> None:
        """Remember it; on disk too with the next :meth:`save`, once it has a digest. Does not wait for the disk."""
        with self._lock:
            before = self.get(stamp).digest
            line = self._keep(stamp, content)
            if self._path is not None and content.digest and content.digest != before and not self._anew:
                self._unwritten.append(line)

    def save(self) -> None:
        """Write down what is new. The disk may make this wait: not for somebody who holds a lock that others need."""
        if self._path is None:
            return
        with self._writing:
            if time.monotonic() < self._again_at:
                return
            with self._lock:
                lines, self._unwritten = self._unwritten, []
                if not lines and not self._anew:
                    return
                size = sum(len(line) + 1 for line in lines)
                anew = self._anew or self._lines > 2 * _KEPT or self._written + size > _DISK
                hashed = [(stamp, content) for stamp, content in self._contents.items() if content.digest] if anew else []
                self._anew = False
            try:
                if anew:
                    self._rewrite(self._path, [self._line(*each) for each in hashed])
                else:
                    self._append(self._path, lines)
            except OSError as e:
                log.debug("what was found in artifacts cannot be written down", extra={"reason": e.strerror})
                with self._lock:
                    self._unwritten, self._anew = [], True
                self._again_at = time.monotonic() + _RETRY_S

    def _keep(self, stamp: Stamp, content: Content) -> bytes:
        """Remember it in memory; the longest unused go when there are too many, or they are too large. Returns its line."""
        line = self._line(stamp, content)
        if len(line) > _ENTRY:
            content = Content(None, content.digest)
            line = self._line(stamp, content)
        self._bytes += len(line) - self._sizes.get(stamp, 0)
        self._contents[stamp], self._sizes[stamp] = content, len(line)
        self._contents.move_to_end(stamp)
        while len(self._contents) > _KEPT or self._bytes > _MEMORY:
            self._bytes -= self._sizes.pop(self._contents.popitem(last=False)[0])
        return line

    def _append(self, path: Path, lines: list[bytes]) -> None:
        """Raises OSError. A line that is torn by a full disk is no JSON; the next one begins a line of its own."""
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            text = b"".join(b"\n" + line for line in lines)
            written = os.write(fd, text)
            self._written += written
            self._lines += len(lines)
            if written < len(text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(fd)

    def _rewrite(self, path: Path, lines: list[bytes]) -> None:
        """Raises OSError."""
        scratch = path.with_name(path.name + ".tmp")
        try:
            written = scratch.write_bytes(b"\n".join(lines))
            scratch.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                scratch.unlink(missing_ok=True)
            raise
        self._written, self._lines = written, len(lines)

    def _line(self, stamp: Stamp, content: Content) -> bytes:
        facts = asdict(content.facts) if content.facts else None
        told: dict[str, Any] = {"stamp": stamp, "digest": content.digest, "facts": facts}
        if os.major(stamp[0]) == 0:
            # Numbers of devices that are no devices are given out anew in each boot.
            told["boot_id"] = self._boot_id
        return json.dumps(told).encode()

    def _load(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                # All of it counts, for it is written anew once it is too large; a part that is too much is not read.
                self._written = os.fstat(file.fileno()).st_size
                lines = file.read(_DISK).split(b"\n")
        except FileNotFoundError:
            return
        except OSError as e:
            log.warning("what was found in artifacts before is not read", extra={"reason": e.strerror})
            return
        for line in lines:
            if line:
                self._lines += 1
                with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError, OverflowError):
                    self._take(json.loads(line))

    def _take(self, told: dict[str, Any]) -> None:
        stamp = tuple(map(int, told["stamp"]))
        digest = str(told["digest"])
        if len(stamp) != 5 or not _DIGEST.match(digest):
            return
        if os.major(stamp[0]) == 0 and told["boot_id"] != self._boot_id:
            return
        self._keep(stamp, Content(told_facts(told["facts"]) if told["facts"] else None, digest))


def told_facts(told: Any) -> Facts:
    """Facts that came as JSON through a process or a file.

    Raises:
        TypeError: these are none.
    """
    if not isinstance(told, dict) or not isinstance(told.get("format"), str):
        raise TypeError("no facts")
    references = told.get("references")
    names = tuple(str(name) for name in references) if isinstance(references, list) else ()
    shards = told.get("shards")
    texts = {k: v for k, v in told.items() if k not in ("references", "shards") and isinstance(v, str)}
    return Facts(**texts, references=names, shards=shards if isinstance(shards, int) else 0)
