"""Hostile artifacts: whatever a file holds, reading it raises nothing, stays within its budget and tells only what is bounded."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from dataclasses import asdict
from pathlib import Path

import joblib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from modelward_agent.identity import header
from modelward_agent.identity.formats import Facts, read_facts
from modelward_agent.identity.header import NAME, Budget

from tests.unit.identity_files import message, number, write_gguf, write_safetensors
from tests.unit.identity_samples import NAMES, sample

READ, STEPS = 1 << 20, 50_000
FILE_NAMES = (
    b"blob", b"config.json", b"adapter_config.json", b"model.safetensors.index.json", b"saved_model.pb", b"m.pkl", b"m.joblib",
    b"m.h5", b"m.onnx", b"m.safetensors", b"m.pt", b"",
)  # fmt: skip
BEGINS = (
    b"GGUF\x03\0\0\0", b"PK\x03\x04", b"\x80\x04", b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.",
    b"\x08\x08\x12\x01x", b"12345678{", b"\x89HDF\r\n\x1a\n\0", b"\x89HDF\r\n\x1a\n\2", b"\x1c\0\0\0TFL3",
    b"{L\0\0\0\0\0\0\0\x07learner{", b'{"learner":{',
    b"\x78\x9c", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0", b"\x5d\0\0", b"tree\nversion=v4\n", b"(lp0\n", b"",
)  # fmt: skip
MEMBERS = (
    "a/data.pkl", "a/constants.pkl", "schema.json", "MAR-INF/MANIFEST.json", "a/archive_format", "a/models/m.json",
    "config.json", "metadata.json", "model.weights.h5",
)  # fmt: skip


def written_by_libraries() -> dict[str, bytes]:
    """Files of every format: those of libraries that are here, and the samples."""
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"identity_fuzz_{os.getpid()}"
    folder.mkdir(exist_ok=True)
    made = {name: sample(name) for name in NAMES}
    made["a.gguf"] = write_gguf(folder / "a.gguf").read_bytes()
    made["a.safetensors"] = write_safetensors(folder / "a.safetensors", name="x").read_bytes()
    for name, pack in (("a.joblib", 0), ("z.joblib", 3), ("x.joblib", ("xz", 3))):
        joblib.dump({"a": np.arange(9), "o": np.array([1, None], dtype=object)}, folder / name, compress=pack)
        made[name] = (folder / name).read_bytes()
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("metadata.json", "{}")
        file.writestr("config.json", json.dumps({"class_name": "Sequential", "config": {"name": "x"}}))
        file.writestr("model.weights.h5", b"")
    made["m.keras"] = packed.getvalue()
    config = {"architectures": ["A"], "quantization_config": {"quant_method": "awq", "bits": 4}}
    made["config.json"] = json.dumps(config).encode()
    made["m.bin.index.json"] = json.dumps({"weight_map": {"a": "a.bin", "b": "../b.bin"}}).encode()
    objects = message(7, message(1, message(4, message(1, b"x"))))
    made["saved_model.pb"] = number(1, 1) + message(2, message(6, message(2, b"a")) + objects)
    made["m.0.pkl"] = pickle.dumps({"a": [1.5, (2, "x")], "b": {Path("/x")}}, 0)
    return made


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return written_by_libraries()


class Watch:
    """Counts what is really read of files."""

    def __init__(self) -> None:
        self.read = 0
        self.calls = 0

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        found = os.pread(fd, length, offset)
        self.read += len(found)
        self.calls += 1
        return found


def check(data: bytes, name: bytes, watch: Watch) -> Facts:
    """Read these bytes as an artifact; what must hold for any."""
    fd = os.memfd_create("artifact")
    try:
        os.write(fd, data)
        budget = Budget(READ, STEPS)
        found = read_facts(fd, len(data), name, budget)
    finally:
        os.close(fd)
    assert watch.read <= READ
    # Each read of the file is paid for: with bytes, or with a step.
    assert watch.calls <= 3 * STEPS
    assert found.format
    told = asdict(found)
    texts = [value for key, value in told.items() if key not in ("references", "shards")]
    assert all(isinstance(value, str) and len(value) <= NAME for value in texts)
    assert len(json.dumps(told)) < 60_000
    for reference in found.references:
        assert not reference.startswith("/")
        assert not {"", ".", ".."} & set(reference.split("/"))
        assert b"\0" not in os.fsencode(reference)
    return found


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    watching = Watch()

    class Os:
        pread = watching.pread
        fsencode = staticmethod(os.fsencode)

    monkeypatch.setattr(header, "os", Os)
    return watching


def fuzz(examples: int) -> settings:
    slow = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(max_examples=examples, deadline=None, suppress_health_check=slow)


def test_a_whole_file_breaks_a_bound(files: dict[str, bytes], watch: Watch) -> None:
    for name, data in files.items():
        watch.read = watch.calls = 0
        assert check(data, name.encode(), watch).problem in ("", "names files outside its folder")


@fuzz(200)
@given(st.data())
def test_damage_raises_or_breaks_a_bound(files: dict[str, bytes], watch: Watch, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(files)))
    raw = bytearray(files[name])
    for _ in range(data.draw(st.integers(0, 8))):
        # Most of what is interpreted stands at the begin, or at the end.
        near = min(len(raw), 200)
        at = data.draw(st.integers(0, len(raw) - 1) | st.integers(0, near - 1) | st.integers(-near, -1))
        raw[at] = data.draw(st.integers(0, 255) | st.sampled_from((0, 1, 0x7F, 0x80, 0xFF)))
    for _ in range(data.draw(st.integers(0, 2))):
        at = data.draw(st.integers(0, len(raw)))
        put = data.draw(st.binary(max_size=40) | st.sampled_from((b"\xff" * 8, bytes(8))))
        raw[at : at + data.draw(st.integers(0, 40))] = put
    cut = raw[: data.draw(st.integers(0, len(raw)) | st.just(len(raw)))]
    watch.read = watch.calls = 0
    check(bytes(cut), data.draw(st.sampled_from((name.encode(), *FILE_NAMES))), watch)


@fuzz(200)
@given(st.sampled_from(BEGINS), st.binary(max_size=400), st.sampled_from(FILE_NAMES))
def test_random_bytes_raise_or_break_a_bound(watch: Watch, begin: bytes, rest: bytes, name: bytes) -> None:
    watch.read = watch.calls = 0
    check(begin + rest, name, watch)


@fuzz(80)
@given(st.data())
def test_a_hostile_member_of_an_archive_raises_or_breaks_a_bound(
    files: dict[str, bytes], watch: Watch, data: st.DataObject
) -> None:
    """Members of archives that are something else: what is inside is as hostile as what is outside."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", data.draw(st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))) as file:
        for name in data.draw(st.lists(st.sampled_from(MEMBERS), unique=True)):
            file.writestr(name, data.draw(st.binary(max_size=80) | st.sampled_from(sorted(files.values()))))
    watch.read = watch.calls = 0
    check(made.getvalue(), b"m.pt", watch)


def deep_graph(depth: int) -> bytes:
    """Graphs in attributes of nodes of graphs, and so on."""
    inner = b""
    for _ in range(depth):
        inner = message(1, message(5, message(6, inner)))
    return message(7, inner)


BOMBS: dict[str, bytes] = {
    "marks": b"\x80\x04" + b"(" * 200_000,
    "tuples that double": b"\x80\x04N" + b"2\x86" * 100_000,
    "memo": b"\x80\x04N" + b"\x94" * 100_000,
    "endless line": b"\x80\x04V" + b"a" * (2 << 20),
    "nested arrays of objects": b"\x80\x04" + (
        b"\x8c\x13joblib.numpy_pickle\x8c\x11NumpyArrayWrapper\x93)\x81}(\x8c\x05shape)\x8c\x05dtype"
        b"\x8c\x05numpy\x8c\x05dtype\x93\x8c\x02O8\x85Rub" * 1000
    ),
    "messages in messages": b"\x08\x08\x12\x01x" + deep_graph(200),
    "messages of no length": b"\x08\x08\x12\x01x" + message(7, b"\x0a\0" * 200_000),
    "objects": b"{L\0\0\0\0\0\0\0\x07learner" + b"{L\0\0\0\0\0\0\0\1a" * 1000,
    "items of no length": b"{L\0\0\0\0\0\0\0\x07learner{L\0\0\0\0\0\0\0\1a[#L" + b"\x7f" + b"\xff" * 7 + b"Z" * 200_000,
    "JSON": b'{"learner":{"a":' + b"[" * 200_000,
    "texts of GGUF": struct.pack("<4sIQQQ1sIIQ", b"GGUF", 3, 0, 1, 1, b"x", 9, 8, 1 << 20) + bytes(9 << 20),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_a_small_file_costs_much(watch: Watch, name: str) -> None:
    assert check(BOMBS[name], b"blob", watch).problem


def test_a_file_that_loses_its_end_while_it_is_read_raises() -> None:
    fd = os.memfd_create("artifact")
    try:
        os.write(fd, b"GGUF\x03\0\0\0")
        assert read_facts(fd, 1 << 30, b"a.gguf").problem == "the file is cut off"
    finally:
        os.close(fd)
