"""What is still to be looked into, on disk: artifacts to be identified, files that may be models. Their batches may be stored and
gone before a sender that crashes was through with them, and the next one would never hear of them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

log = logging.getLogger(__name__)

_MOST = 256
_WRITTEN = 256 << 10
"""Bytes of all entries: whoever writes them has other work that waits."""
_BYTES = 8 << 20
_EVERY_S, _RETRY_S = 1.0, 60.0
"""Between two writes, and after a disk refused one."""
_NARROW = frozenset({"pid", "tid", "device"})
"""Numbers of 32 bits; others have 64."""
_NAMED: dict[str, type[bytes] | type[str] | type[int]] = {"bytes": bytes, "str": str, "int": int}
_LONGEST = 256


class Owned(Protocol):
    """A data class of numbers, bytes and texts."""

    @property
    def workload(self) -> str: ...


T = TypeVar("T", bound=Owned)


class Unfinished(Generic[T]):
    """A file beside the spool. Of another boot it says nothing: its processes are gone."""

    def __init__(self, path: Path, boot_id: str, of: type[T], now: Callable[[], float] = time.monotonic) -> None:
        """``of``: what is kept there. ``now``: a clock."""
        self._path = path
        self._boot_id = boot_id
        self._of = of
        self._types = {field.name: _NAMED[str(field.type)] for field in fields(of)}  # type: ignore[arg-type]
        self._saved: list[T] = []
        self._now = now
        self._again_at = self._retry_at = 0.0

    def save(self, waiting: Sequence[T], *, last: bool = False) -> None:
        """Keep these; if they are too many, the latest of each workload. Cheap when they are those of the last time, or the last
        time was a moment ago: then the next call sees to it. ``last``: there is none."""
        now = self._now()
        if now < self._retry_at or (now < self._again_at and not last):
            return
        chosen = _latest(waiting)
        kept = [waiting[at] for at in sorted(chosen)]
        if kept == self._saved:
            return
        texts: dict[int, str] = {}
        left = _WRITTEN
        for at in chosen:
            text = json.dumps(self._members(waiting[at]))
            if len(text) <= left:
                texts[at] = text
                left -= len(text)
        self._again_at = now + _EVERY_S
        scratch = self._path.with_name(self._path.name + ".tmp")
        try:
            told = ", ".join(texts[at] for at in sorted(texts))
            scratch.write_text(f'{{"boot_id": {json.dumps(self._boot_id)}, "artifacts": [{told}]}}')
            scratch.replace(self._path)
        except OSError as e:
            # On a full disk a crash of the sender may leave an instance without a name, as it would without this file.
            log.debug("what is still to be looked into cannot be written down", extra={"reason": e.strerror})
            with contextlib.suppress(OSError):
                scratch.unlink(missing_ok=True)
            self._retry_at = now + _RETRY_S
            return
        self._saved = kept

    def load(self) -> list[T]:
        """What the sender before left; nothing when there is no file, or a damaged one."""
        try:
            with self._path.open("rb") as file:
                values = json.loads(file.read(_BYTES))
            if values["boot_id"] != self._boot_id:
                return []
            return [self._read(told) for told in values["artifacts"][:_MOST]]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError) as e:
            log.warning("what was still to be looked into is forgotten", extra={"reason": str(e)[:200]})
            return []

    def _members(self, each: T) -> dict[str, object]:
        told = {name: _told(getattr(each, name)) for name in self._types}
        if told.get("asked") == told.get("path"):
            told.pop("asked", None)
        return told

    def _read(self, told: dict[str, Any]) -> T:
        """Raises ValueError, KeyError, TypeError, OverflowError: it is none of them."""
        values: dict[str, Any] = {}
        for name, kind in self._types.items():
            if kind is str:
                # A sender of an older version did not write it.
                values[name] = str(told.get(name, ""))[:_LONGEST]
            elif kind is bytes:
                values[name] = bytes.fromhex(told["path" if name == "asked" and name not in told else name])
            else:
                values[name] = int(told[name])
                if not 0 <= values[name] < 1 << (32 if name in _NARROW else 64):
                    raise ValueError(f"{name} is no number of the kernel's")
        return self._of(**values)


def _told(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value


def _latest(waiting: Sequence[T]) -> list[int]:
    """Where those are that are kept, what matters most first: of no workload more than of another that has more to keep."""
    seen: Counter[str] = Counter()
    ranks: list[tuple[int, int]] = []
    for at in reversed(range(len(waiting))):
        ranks.append((seen[waiting[at].workload], at))
        seen[waiting[at].workload] += 1
    return [at for _, at in sorted(ranks)[:_MOST]]
