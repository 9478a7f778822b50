"""Formats by their headers: what each says of itself, and that damaged or hostile ones are no harm."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from modelward_agent.identity.formats import Facts, read_facts

from tests.unit.identity_files import write_gguf, write_safetensors, write_torch


def facts(path: Path, name: bytes | None = None) -> Facts:
    fd = os.open(path, os.O_RDONLY)
    try:
        return read_facts(fd, os.fstat(fd).st_size, os.fsencode(path.name) if name is None else name)
    finally:
        os.close(fd)


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def archive(*names: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        for name in names:
            file.writestr(name, b"x")
    return made.getvalue()


def test_gguf_name_is_not_read(tmp_path: Path) -> None:
    assert facts(write_gguf(tmp_path / "a.gguf")) == Facts("gguf", "Tiny Llama", "v7", "llama")


def test_gguf_name_behind_a_large_vocabulary_is_not_read(tmp_path: Path) -> None:
    assert facts(write_gguf(tmp_path / "a.gguf", vocabulary=50_000)).name == "Tiny Llama"


def test_gguf_is_known_by_its_ending_only(tmp_path: Path) -> None:
    assert facts(write_gguf(tmp_path / "a.gguf"), b"blob").format == "gguf"


def test_safetensors_title_is_not_read(tmp_path: Path) -> None:
    made = write_safetensors(tmp_path / "m.safetensors", **{"modelspec.title": "Small", "format": "pt"})
    assert facts(made) == Facts("safetensors", "Small", quantization="F32")
    assert facts(made, b"0123abcd").format == "safetensors"


def test_torch_archive_is_taken_for_another(tmp_path: Path) -> None:
    assert facts(write_torch(tmp_path / "m.pt")) == Facts("torch")


def test_joblib_and_pickle_are_taken_for_another(tmp_path: Path) -> None:
    joblib.dump({"a": np.arange(9)}, tmp_path / "m.joblib")
    joblib.dump({"a": np.arange(9)}, tmp_path / "z.joblib", compress=3)
    (tmp_path / "m.pkl").write_bytes(pickle.dumps([1, 2]))
    assert [facts(tmp_path / name).format for name in ("m.joblib", "z.joblib", "m.pkl")] == [
        "joblib",
        "joblib",
        "pickle",
    ]


@pytest.mark.parametrize(
    ("name", "make", "expected"),
    [
        ("m.pt", lambda: b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "torch"),
        ("m.pt", lambda: archive("m/data.pkl", "m/constants.pkl", "m/code/a.py"), "torchscript"),
        ("m.keras", lambda: archive("metadata.json", "config.json", "model.weights.h5"), "keras"),
        ("m.mar", lambda: archive("MAR-INF/MANIFEST.json", "m.py"), "torchserve"),
        ("m.npz", lambda: archive("a.npy", "b.npy"), "numpy"),
        ("m.skops", lambda: archive("schema.json"), "skops"),
        ("m.zip", lambda: archive("readme"), "zip"),
        ("m.h5", lambda: b"\x89HDF\r\n\x1a\n" + bytes(90), "keras"),
        ("m.tflite", lambda: b"\x1c\0\0\0TFL3" + bytes(30), "tflite"),
        ("m.npy", lambda: b"\x93NUMPY\x01\0" + bytes(30), "numpy"),
        ("m.onnx", lambda: b"\x08\x08\x12\x07pytorch\x1a\x032.5:\x04\x0a\x02\x0a\x00", "onnx"),
        ("blob", lambda: b"\x08\x08\x12\x07pytorch\x1a\x032.5:\x04\x0a\x02\x0a\x00", "onnx"),
        ("saved_model.pb", lambda: b"\x08\x01\x12\x04", "saved_model"),
        ("m.xyz", lambda: b"hello", "unknown"),
        ("m.gguf", lambda: b"", "gguf"),
        ("empty", lambda: b"", "unknown"),
    ],
)
def test_a_format_is_taken_for_another(tmp_path: Path, name: str, make: Callable[[], bytes], expected: str) -> None:
    assert facts(written(tmp_path / name, make())).format == expected


def test_a_file_that_is_no_model_counts_as_onnx(tmp_path: Path) -> None:
    for data in (b"\x7fELF" + bytes(60), b"#!/bin/sh\n", b"\x08", b"\x0a" * 40, os.urandom(64)):
        assert facts(written(tmp_path / "x", data)).format != "onnx" or data[0] == 8


def test_a_pickle_is_loaded(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
            return os.remove, (str(tmp_path / "canary"),)

    (tmp_path / "canary").touch()
    data = pickle.dumps(Bomb())
    for name, content in (("b.pkl", data), ("b.joblib", data), ("c.joblib", zlib.compress(data))):
        facts(written(tmp_path / name, content))
    with zipfile.ZipFile(tmp_path / "b.pt", "w") as file:
        file.writestr("archive/data.pkl", data)
    facts(tmp_path / "b.pt")
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<4sIQQ", b"GGUF", 3, 1, 2**63),
        struct.pack("<4sIQQQ", b"GGUF", 3, 1, 1, 2**63) + b"x",
        struct.pack("<4sIQQQ4sIIQ", b"GGUF", 3, 1, 1, 4, b"keyy", 9, 8, 2**40),
        struct.pack("<4sIQQQ4sIIQ", b"GGUF", 3, 1, 1, 4, b"keyy", 9, 9, 2**20) + struct.pack("<IQ", 9, 2**20) * 50,
        struct.pack("<4sIQQQ4sI", b"GGUF", 3, 1, 1, 4, b"keyy", 77),
        b"GGUF\x09\x00\x00\x00",
        b"GGUF",
        struct.pack("<Q", 2**63) + b'{"dtype"',
        struct.pack("<Q", 15 << 20) + b'{"dtype"',
        struct.pack("<Q", 4000) + b'{"__metadata__":' + b"[" * 3984,
        struct.pack("<Q", 20) + b'{"__metadata__": 1  }',
        b"PK\x03\x04" + bytes(40),
        b"PK\x03\x04" + bytes(40) + b"PK\x05\x06" + b"\xff" * 18,
        b"PK\x03\x04" + b"PK\x06\x07" + bytes(4) + b"\xff" * 8 + bytes(4) + b"PK\x05\x06" + b"\xff" * 18,
    ],
)
def test_a_hostile_header_raises_or_is_not_told(tmp_path: Path, data: bytes) -> None:
    found = facts(written(tmp_path / "m.bin", data))
    assert found.format in ("gguf", "safetensors", "zip")
    assert found.problem or data[8:].startswith(b'{"__metadata__": 1')


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_anywhere_in_a_header_raises(tmp_path: Path, data: st.DataObject) -> None:
    makers: list[tuple[str, Callable[[Path], Path]]] = [
        ("a.gguf", write_gguf),
        ("a.safetensors", lambda path: write_safetensors(path, name="x")),
        ("a.pt", write_torch),
    ]
    name, make = data.draw(st.sampled_from(makers))
    if not (tmp_path / name).exists():
        make(tmp_path / name)
    raw = bytearray((tmp_path / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    assert facts(written(tmp_path / "damaged", bytes(raw[: data.draw(st.integers(0, len(raw)))])), name.encode()).format


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([b"", b"GGUF\x03\0\0\0", b"PK\x03\x04", b"\x80\x04", b"\x08\x08", b"12345678{"]),
    st.binary(max_size=300),
    st.binary(max_size=12),
)
def test_random_bytes_raise(tmp_path: Path, magic: bytes, rest: bytes, name: bytes) -> None:
    assert facts(written(tmp_path / "random", magic + rest), name).format
