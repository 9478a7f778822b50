"""What is still to be looked into, on disk: artifacts to be identified, files that may be models. Their batches may be stored and
gone before a sender that crashes was through with them, and the next one would never hear of them.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

log = logging.getLogger(__name__)

_MOST = 256
_BYTES = 8 << 20
_NAMED: dict[str, type[bytes] | type[str] | type[int]] = {"bytes": bytes, "str": str, "int": int}
_LONGEST = 256


class Owned(Protocol):
    """A data class of numbers, bytes and texts."""

    @property
    def workload(self) -> str: ...


T = TypeVar("T", bound=Owned)


class Unfinished(Generic[T]):
    """A file beside the spool. Of another boot it says nothing: its processes are gone."""

    def __init__(self, path: Path, boot_id: str, of: type[T]) -> None:
        """``of``: what is kept there."""
        self._path = path
        self._boot_id = boot_id
        self._of = of
        self._types = {field.name: _NAMED[str(field.type)] for field in fields(of)}  # type: ignore[arg-type]
        self._saved: list[T] = []

    def save(self, waiting: Sequence[T]) -> None:
        """Keep these; if they are too many, the latest of each workload. Cheap when they are those of the last time."""
        kept = list(waiting) if len(waiting) <= _MOST else _latest(waiting)
        if kept == self._saved:
            return
        told = [{name: _told(getattr(each, name)) for name in self._types} for each in kept]
        scratch = self._path.with_name(self._path.name + ".tmp")
        try:
            scratch.write_text(json.dumps({"boot_id": self._boot_id, "artifacts": told}))
            scratch.replace(self._path)
        except OSError as e:
            # On a full disk a crash of the sender may leave an instance without a name, as it would without this file.
            log.debug("what is still to be looked into cannot be written down", extra={"reason": e.strerror})
            with contextlib.suppress(OSError):
                scratch.unlink(missing_ok=True)
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
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as e:
            log.warning("what was still to be looked into is forgotten", extra={"reason": str(e)[:200]})
            return []

    def _read(self, told: dict[str, Any]) -> T:
        values: dict[str, Any] = {}
        for name, kind in self._types.items():
            if kind is str:
                # A sender of an older version did not write it.
                values[name] = str(told.get(name, ""))[:_LONGEST]
            else:
                values[name] = bytes.fromhex(told[name]) if kind is bytes else int(told[name])
        return self._of(**values)


def _told(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value


def _latest(waiting: Sequence[T]) -> list[T]:
    """As many as are kept, in their order: of no workload more than of another that has more to keep."""
    seen: Counter[str] = Counter()
    ranks: list[tuple[int, int]] = []
    for at in reversed(range(len(waiting))):
        ranks.append((seen[waiting[at].workload], at))
        seen[waiting[at].workload] += 1
    return [waiting[at] for at in sorted(at for _, at in sorted(ranks)[:_MOST])]
