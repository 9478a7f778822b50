"""An identity on its way through the spool: a large kernel record of kind ``MODEL_IDENTITY`` from user space.

It takes the same path as what the kernel saw, so that it is numbered, spooled and resent like any other
record.
"""

from __future__ import annotations

import json
import time

import numpy as np
from modelward_proto.kinds import Kind

from modelward_agent.identity.artifact import Artifact, Identity, told_identity
from modelward_agent.sensor import records
from modelward_agent.sensor.constants import REPEATS_RING, Segment

_KEYS = ("id", "revision", "digest", "format", "source", "architecture", "quantization", "base")


def identity_record(instance: int, artifact: Artifact, identity: Identity) -> bytes:
    """The record that the drainer spools: who loaded it as the artifact's own record said, what it is as
    JSON."""
    text_at = records.LARGE.itemsize - records.LARGE["text"].itemsize
    room = records.LARGE.itemsize - text_at
    record = np.zeros(1, records.LARGE)
    raw = record.view(np.uint8)
    header = np.frombuffer(artifact.header, np.uint8)[:text_at]
    raw[: len(header)] = header
    told = _told(identity, room // 2)
    path = artifact.path[: room - len(told)]
    # The members of an open that lie under those of a lifecycle record must not show through.
    record["by_kind"] = 0
    record["kind"] = int(Kind.MODEL_IDENTITY)
    record["ring"] = REPEATS_RING
    record["number"] = 0
    record["count"] = 1
    record["flags"] = 0
    record["outcome"] = 0
    record["time_ns"] = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    record["instance"] = instance
    record["artifact_inode"] = artifact.inode
    record["artifact_device"] = artifact.device
    lengths = np.zeros(record["seg"].shape, record["seg"].dtype)
    lengths[0, Segment.PATH], lengths[0, Segment.ARGV] = len(path), len(told)
    record["seg"] = lengths
    raw[text_at : text_at + len(path) + len(told)] = np.frombuffer(path + told, np.uint8)
    return record.tobytes()


def _told(identity: Identity, most: int) -> bytes:
    """An identity as JSON. Where texts are too long for a record, they are cut until the whole fits: no model may hide its
    digest behind a long name."""
    told = b""
    for name_length, other_length in ((4096, 4096), (1024, 128), (256, 64), (64, 32)):
        cut = {key: getattr(identity, key)[: name_length if key in ("id", "digest") else other_length] for key in _KEYS}
        told = json.dumps(cut, ensure_ascii=False).encode()
        if len(told) <= most:
            break
    return told


def parse_identity(path: bytes, text: bytes) -> Identity:
    """What an identity record says; one that holds no JSON is an identity of the path alone."""
    try:
        told = json.loads(text.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        told = None
    return told_identity(path, told)
