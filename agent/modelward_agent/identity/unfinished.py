"""Artifacts that are still to be identified, on disk: their batches may be stored and gone before a sender that crashes has named
them, and the next one would never hear of them.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from modelward_agent.identity.artifact import Artifact

log = logging.getLogger(__name__)

_MOST = 256
_BYTES = 8 << 20
_NAMED: dict[str, type[bytes] | type[str] | type[int]] = {"bytes": bytes, "str": str, "int": int}
_TYPES = {field.name: _NAMED[str(field.type)] for field in fields(Artifact)}
_LONGEST = 256


class Unfinished:
    """A file beside the spool. Of another boot it says nothing: its processes are gone."""

    def __init__(self, path: Path, boot_id: str) -> None:
        self._path = path
        self._boot_id = boot_id
        self._saved: list[int] = []

    def save(self, artifacts: Sequence[Artifact]) -> None:
        """Keep these; if they are too many, the latest of each workload. Cheap when they are those of the last time."""
        kept = artifacts if len(artifacts) <= _MOST else _latest(artifacts)
        instances = [artifact.instance for artifact in kept]
        if instances == self._saved:
            return
        told = [{name: v.hex() if isinstance(v, bytes) else v for name, v in asdict(each).items()} for each in kept]
        scratch = self._path.with_name(self._path.name + ".tmp")
        try:
            scratch.write_text(json.dumps({"boot_id": self._boot_id, "artifacts": told}))
            scratch.replace(self._path)
        except OSError as e:
            # On a full disk a crash of the sender may leave an instance without a name, as it would without this file.
            log.debug("artifacts to identify cannot be written down", extra={"reason": e.strerror})
            with contextlib.suppress(OSError):
                scratch.unlink(missing_ok=True)
            return
        self._saved = instances

    def load(self) -> list[Artifact]:
        """What the sender before left; nothing when there is no file, or a damaged one."""
        try:
            with self._path.open("rb") as file:
                values = json.loads(file.read(_BYTES))
            if values["boot_id"] != self._boot_id:
                return []
            return [_artifact(told) for told in values["artifacts"][:_MOST]]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as e:
            log.warning("artifacts that were still to be identified are forgotten", extra={"reason": str(e)[:200]})
            return []


def _latest(artifacts: Sequence[Artifact]) -> list[Artifact]:
    """As many as are kept, in their order: of no workload more than of another that has more to keep."""
    seen: Counter[str] = Counter()
    ranks: list[tuple[int, int]] = []
    for at in reversed(range(len(artifacts))):
        ranks.append((seen[artifacts[at].workload], at))
        seen[artifacts[at].workload] += 1
    return [artifacts[at] for at in sorted(at for _, at in sorted(ranks)[:_MOST])]


def _artifact(told: dict[str, Any]) -> Artifact:
    values: dict[str, Any] = {}
    for name, kind in _TYPES.items():
        if kind is str:
            # A sender of an older version did not write it.
            values[name] = str(told.get(name, ""))[:_LONGEST]
        else:
            values[name] = bytes.fromhex(told[name]) if kind is bytes else int(told[name])
    return Artifact(**values)
