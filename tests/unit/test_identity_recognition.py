"""A file is told for a model by what it holds, whatever it is called; what merely resembles one is none."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import pytest
from modelward_agent.identity.recognition import recognise
from sklearn.linear_model import LinearRegression

from tests.unit.identity_files import write_gguf, write_safetensors, write_torch, written
from tests.unit.identity_samples import sample


def told(path: Path) -> str:
    fd = os.open(path, os.O_RDONLY)
    try:
        return recognise(fd, os.fstat(fd).st_size)
    finally:
        os.close(fd)


class _Harm:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("true",)


def _zip(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"x" * 100)
    return path


def _joblib(path: Path, compress: int = 0) -> Path:
    joblib.dump(LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0]), path, compress=compress)
    return path


@pytest.mark.parametrize(("make", "expected"), [
    (write_gguf, "gguf"),
    (write_safetensors, "safetensors"),
    (write_torch, "torch"),
    (_joblib, "joblib"),
    (lambda path: _joblib(path, 3), "joblib"),
    (lambda path: written(path, pickle.dumps(LinearRegression())), "pickle"),
    (lambda path: written(path, pickle.dumps({"harmless": 1, "payload": [_Harm()]})), "pickle"),
    (lambda path: written(path, pickle.dumps({"model": LinearRegression()}, protocol=2)), "pickle"),
    (lambda path: written(path, sample("m.tflite")), "tflite"),
    (lambda path: written(path, sample("dart.ubj")), "xgboost"),
    (lambda path: written(path, sample("ext.onnx")), "onnx"),
    (lambda path: written(path, sample("earliest_vlen.h5")), "keras"),
], ids=["gguf", "safetensors", "torch zip", "joblib", "joblib, compressed", "pickle of a framework", "pickle that runs a program",
        "pickle 2", "tflite", "xgboost", "onnx", "keras"])
def test_a_model_is_told_under_any_name(tmp_path: Path, make: Callable[[Path], Path], expected: str) -> None:
    assert told(make(tmp_path / "blob.log")) == expected


@pytest.mark.parametrize("make", [
    lambda path: written(path, b"the quick brown fox " * 100),
    lambda path: written(path, os.urandom(4096)),
    lambda path: written(path, b"\x7fELF" + bytes(4096)),
    lambda path: written(path, json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}).encode()),
    lambda path: _zip(path, "word/document.xml", "[Content_Types].xml"),
    lambda path: written(path, pickle.dumps({"session": 1, "seen": OrderedDict(a={1, 2}), "when": b"x" * 1000})),
    lambda path: written(path, pickle.dumps(np.zeros(100))),
    lambda path: written(path, gzip.compress(b"log line\n" * 1000)),
    lambda path: written(path, gzip.compress(pickle.dumps({"cached": list(range(1000))}))),
    lambda path: written(path, _saved(np.zeros(10))),
    lambda path: written(path, sample("other.h5")),
    lambda path: written(path, struct.pack("<Q", 1 << 40) + b'{"a":{"dtype":"F32"}}'.ljust(100)),
    lambda path: written(path, b"\x80\x04"),
], ids=["text", "noise", "elf", "json", "document", "session", "array", "gzip", "cache, compressed", "npy", "hdf5 of data",
        "length of a header that the file has no room for", "cut off"])
def test_what_is_no_model_is_none(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    # Not even by an ending: that is not looked at.
    assert told(make(tmp_path / "blob.pt")) == ""


def _saved(array: np.ndarray) -> bytes:
    room = io.BytesIO()
    np.save(room, array)
    return room.getvalue()


def test_a_hostile_file_is_read_in_bounds(tmp_path: Path) -> None:
    bomb = written(tmp_path / "bomb", gzip.compress(b"\x80\x04" + b"(" * (64 << 20)))
    deep = written(tmp_path / "deep", b"\x80\x04" + b"]" * 4_000_000)
    assert (told(bomb), told(deep)) == ("", "")
