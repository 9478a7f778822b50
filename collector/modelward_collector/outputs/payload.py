"""The body of a delivery: one detection as JSON, as docs/outputs.md describes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

SCHEMA = "modelward.detection/1"

MOST_TEXT = 8192
"""Characters of one text; a longer one is cut, and the body says so."""

MOST_BODY = 256 << 10
"""Bytes; beyond that the reduced form goes out, which is always small."""

TEST_EVENT = "canary"
"""Name of the event that ``modelward test-alert`` provokes."""

OURS = (
    "detection_id", "time", "detected_at", "stored_at", "rule_id", "rule_name", "rule_title", "rule_version", "severity",
    "response", "reason", "next_step", "attack", "host_name", "host_labels", "agent_id", "event_name", "lifecycle_phase",
    "lifecycle_scope", "lifecycle_evidence", "model_digest", "late",
)
"""Columns that no workload can write into. Some receivers, and the filters in front of them, refuse a body for the attack
that it tells of; these alone tell of it too, and are not refused."""

INTERNAL = ("silenced_by", "stored_ns")


def body(row: Mapping[str, Any]) -> bytes:
    """The whole detection; the reduced form where that would be too large."""
    cut: list[str] = []
    detection: dict[str, Any] = {}
    for name, value in row.items():
        if name in INTERNAL:
            continue
        if isinstance(value, str) and len(value) > MOST_TEXT:
            cut.append(name)
            value = value[:MOST_TEXT]
        detection[name] = value
    made = _document(detection, cut=cut, is_reduced=False)
    return made if len(made) <= MOST_BODY else reduced(row)


def reduced(row: Mapping[str, Any]) -> bytes:
    """The detection without anything that a workload wrote."""
    return _document({name: row[name] for name in OURS if name in row}, cut=[], is_reduced=True)


def is_test(row: Mapping[str, Any]) -> bool:
    """Whether an operator provoked it to see that alerts arrive."""
    return bool(row["event_name"] == TEST_EVENT)


def _document(detection: dict[str, Any], *, cut: list[str], is_reduced: bool) -> bytes:
    labels = dict(item.partition("=")[::2] for item in detection.get("host_labels", ()))
    document = {
        "schema": SCHEMA, "test": is_test(detection), "reduced": is_reduced, "truncated": cut,
        "detection": detection | {"host_labels": labels},
    }
    return json.dumps(document, ensure_ascii=True, separators=(",", ":")).encode("ascii")
