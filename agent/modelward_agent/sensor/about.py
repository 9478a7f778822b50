"""What pinned maps and programs are: text kept beside them in the kernel, for the next agent, which may be of another version."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from modelward_agent.sensor import records
from modelward_agent.sensor.constants import Ring
from modelward_agent.sensor.doors import EFFECTS, DoorReport
from modelward_agent.sensor.libbpf import Map

_STATE = ("mw_task", "mw_group", "mw_scope_slot", "mw_held", "mw_client", "mw_endpoint", "mw_inode", "mw_known", "mw_totals")
"""What a lifecycle is kept in: equal members, and an upgraded agent goes on with it."""
_FIRST = struct.pack("=I", 0)


@dataclass(frozen=True)
class About:
    """A loaded kernel side."""

    rings: str
    """names its rings, at random"""
    fingerprint: str
    """equal for equal objects, sizes and choices: then there is nothing to load anew"""
    state: str
    """equal for equal layouts of the lifecycle's state"""
    ring_bytes: Mapping[Ring, int]
    small: np.dtype[np.void]
    large: np.dtype[np.void]
    repeat_size: int
    repeat_key_size: int
    kinds: int
    """``MW_KIND_MAX``"""
    sections: Mapping[str, str]
    """of the programs that were loaded"""
    refused: Mapping[str, str]
    doors: tuple[DoorReport, ...] = field(default=())
    """empty until all hooks are attached"""

    def with_doors(self, doors: Iterable[DoorReport]) -> About:
        return replace(self, doors=tuple(doors))

    def to_json(self) -> dict[str, Any]:
        return {
            "rings": self.rings, "fingerprint": self.fingerprint, "state": self.state, "repeat_size": self.repeat_size,
            "repeat_key_size": self.repeat_key_size, "kinds": self.kinds,
            "ring_bytes": {int(ring): size for ring, size in self.ring_bytes.items()},
            "small": _described(self.small), "large": _described(self.large),
            "sections": dict(self.sections), "refused": dict(self.refused), "doors": [asdict(door) for door in self.doors],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> About:
        """Raises ValueError, KeyError or TypeError when it is not one."""
        return cls(
            rings=values["rings"], fingerprint=values["fingerprint"], state=values["state"],
            ring_bytes={Ring(int(ring)): size for ring, size in values["ring_bytes"].items()},
            small=_dtype(values["small"]), large=_dtype(values["large"]), repeat_size=values["repeat_size"],
            repeat_key_size=values["repeat_key_size"], kinds=values["kinds"], sections=values["sections"],
            refused=values["refused"], doors=tuple(DoorReport(**door) for door in values["doors"]),
        )


def about_object(path: Path, ring_bytes: Mapping[Ring, int], without: Iterable[str]) -> About:
    """Of an object that is to be loaded; ``sections`` and ``refused`` are known only then."""
    types = records.btf(path)
    found = hashlib.sha256(path.read_bytes())
    found.update(repr((sorted(ring_bytes.items()), sorted(without), EFFECTS)).encode())
    state = repr([(name, types.size(name), types.members(name)) for name in _STATE])
    return About(
        rings=os.urandom(8).hex(), fingerprint=found.hexdigest()[:16], state=hashlib.sha256(state.encode()).hexdigest()[:16],
        ring_bytes=dict(ring_bytes), small=records.SMALL, large=records.LARGE, repeat_size=types.size("mw_repeat"),
        repeat_key_size=types.size("mw_repeat_key"), kinds=types.enum("mw_kind")["MW_KIND_MAX"], sections={}, refused={},
    )


def write_note(note: Map, values: Mapping[str, Any]) -> None:
    """Replace a note as a whole: whoever is killed meanwhile leaves the old text or the new one. Raises OSError."""
    text = json.dumps(values, separators=(",", ":")).encode()
    if len(text) > note.value_size:
        raise OSError(0, f"{len(text)} bytes do not fit into a note of {note.value_size}")
    note.update(_FIRST, text.ljust(note.value_size, b"\0"))


def read_note(note: Map) -> dict[str, Any]:
    """Empty when nothing was written yet. Raises OSError or ValueError."""
    text = note.lookup(_FIRST, note.value_size).rstrip(b"\0")
    return dict(json.loads(text)) if text else {}


def _dtype(described: Mapping[str, Any]) -> np.dtype[np.void]:
    formats = [form if isinstance(form, str) else (form[0], tuple(form[1])) for form in described["formats"]]
    return np.dtype({"names": described["names"], "formats": formats, "offsets": described["offsets"],
                     "itemsize": described["itemsize"]})


def _described(dtype: np.dtype[np.void]) -> dict[str, Any]:
    fields = dict(dtype.fields or {})
    formats = [kind.base.str if kind.shape == () else [kind.base.str, list(kind.shape)] for kind, *_ in fields.values()]
    return {"names": list(fields), "formats": formats, "offsets": [offset for _, offset, *_ in fields.values()],
            "itemsize": dtype.itemsize}
