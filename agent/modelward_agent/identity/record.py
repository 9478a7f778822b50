"""An identity on its way through the spool: a large kernel record of kind ``MODEL_IDENTITY``, made in user space.

It takes the same path as what the kernel saw, so that it is numbered, spooled and resent like any other
record.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
from modelward_proto.kinds import Kind
from modelward_proto.text import escape, is_inert

from modelward_agent.enrich.record_flags import SEG_ARGV, SEG_PATH
from modelward_agent.identity.artifact import Artifact, Identity

_KEYS = ("id", "revision", "digest", "format", "source")
_LONGEST = 512
NO_RING = 255
"""Ring of a record that came from none: its number opens no gap."""


def identity_record(instance: int, artifact: Artifact, identity: Identity) -> bytes:
    """The record that the drainer spools: whose the instance is as the artifact's record said, what it is
    as JSON."""
    from modelward_agent.sensor.records import LARGE

    record = np.zeros(1, LARGE)
    room = LARGE.itemsize - int(LARGE.fields["text"][1])
    raw = record.view(np.uint8)
    header = np.frombuffer(artifact.header, np.uint8)
    raw[: len(header)] = header
    path = artifact.path[: room // 2]
    known = json.dumps({key: getattr(identity, key)[:_LONGEST] for key in _KEYS}).encode()
    if len(path) + len(known) > room:
        known = json.dumps({key: getattr(identity, key)[:64] for key in ("digest", "format", "source")}).encode()
    record["kind"] = int(Kind.MODEL_IDENTITY)
    record["ring"] = NO_RING
    record["number"] = 0
    record["count"] = 1
    record["flags"] = 0
    record["time_ns"] = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    record["instance"] = instance
    record["artifact_inode"] = artifact.inode
    record["artifact_device"] = artifact.device
    lengths = np.zeros_like(record["seg"])
    lengths[0, SEG_PATH], lengths[0, SEG_ARGV] = len(path), len(known)
    record["seg"] = lengths
    at = int(LARGE.fields["text"][1])
    raw[at : at + len(path) + len(known)] = np.frombuffer(path + known, np.uint8)
    return record.tobytes()


def parse_identity(path: bytes, text: bytes) -> Identity:
    """What an identity record says. Whatever it holds becomes bounded, inert text; what is no JSON
    becomes an identity of the path alone."""
    try:
        told = json.loads(text.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        told = None
    found = Identity(path=escape(path))
    if not isinstance(told, dict):
        return found
    return replace(found, **{key: _text(told.get(key, "")) for key in _KEYS})


def _text(value: object) -> str:
    if not isinstance(value, str):
        return ""
    value = value[:_LONGEST]
    return value if is_inert(value) else escape(value.encode("utf-8", "surrogatepass"))
