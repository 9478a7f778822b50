"""Records of another version of the agent, brought into this one's layout."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from modelward_agent.sensor import records
from modelward_agent.sensor.about import About, about_object
from modelward_agent.sensor.constants import Ring
from modelward_agent.sensor.doors import EFFECTS, DoorReport
from modelward_agent.sensor.predecessor import converted
from modelward_agent.sensor.sensor import DEFAULT_RING_BYTES


@pytest.fixture(autouse=True)
def _object() -> None:
    if not records.OBJECT.exists():
        pytest.skip("needs the kernel object: run 'make bpf'")


def _other(text: int, shift: int = 8) -> np.dtype[Any]:
    """This version's small record with 8 bytes more at its head, without ``uid``, and with another room for text."""
    fields = dict(records.SMALL.fields or {})
    names = [name for name in fields if name != "uid"]
    offsets = [fields[name][1] + shift for name in names]
    formats = [fields[name][0] if name != "text" else np.dtype(f"V{text}") for name in names]
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": fields["text"][1] + shift + text})


def _record() -> np.ndarray[Any, Any]:
    made = np.zeros(2, records.SMALL)
    made["number"], made["tgid"], made["uid"], made["kind"] = 7, [11, 12], 1000, 16
    made["inode"], made["device"], made["access"] = 2**63 + 5, 42, 3
    made["seg"] = [[3, 2, 0, 0, 0], [160, 0, 0, 0, 0]]
    made["text"] = [b"abcde", b"x" * 160]
    return made


def test_records_of_the_same_layout_are_passed_on_as_they_are() -> None:
    made = _record()
    assert converted(made, records.SMALL) is made


@pytest.mark.parametrize("room", [100, 160, 300])
def test_members_keep_their_values_where_offsets_and_rooms_differ(room: int) -> None:
    other = converted(_record(), _other(room))
    back = converted(other, records.SMALL)
    for name in ("number", "tgid", "kind", "inode", "device", "access"):
        assert back[name].tolist() == _record()[name].tolist() == other[name].tolist()
    assert back["seg"].tolist() == _record()["seg"].tolist()
    assert back["uid"].tolist() == [0, 0]
    assert back["text"][1].tobytes() == b"x" * min(room, 160) + bytes(160 - min(room, 160))


def test_what_is_said_of_a_loaded_object_survives_as_text() -> None:
    about = about_object(records.OBJECT, DEFAULT_RING_BYTES, ["on_send"])
    about = replace(about, sections={"on_exec": "tp_btf/sched_process_exec"}, refused={"on_send": "left out"})
    about = about.with_doors([DoorReport(effect.name, "none", "why", False, "all") for effect in EFFECTS])
    again = About.from_json(json.loads(json.dumps(about.to_json())))
    assert again == about
    assert again.small == records.SMALL
    assert again.ring_bytes[Ring.CONTROL] == DEFAULT_RING_BYTES[Ring.CONTROL]


def test_another_choice_is_another_fingerprint_and_another_name_of_rings() -> None:
    one, two = (about_object(records.OBJECT, DEFAULT_RING_BYTES, without) for without in ([], ["on_send"]))
    assert one.fingerprint != two.fingerprint
    assert one.rings != about_object(records.OBJECT, DEFAULT_RING_BYTES, []).rings
    assert one.fingerprint == about_object(records.OBJECT, DEFAULT_RING_BYTES, []).fingerprint
    assert one.state == two.state
    narrow = {**DEFAULT_RING_BYTES, Ring.EVENTS: 1 << 16}
    assert about_object(records.OBJECT, narrow, []).fingerprint != one.fingerprint
