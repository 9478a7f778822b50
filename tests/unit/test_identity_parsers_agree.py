"""Parsers of ours beside those of the formats' own libraries: on the same bytes both must say the same."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from datetime import date
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import gguf
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from modelward_agent.identity.header import Budget, Cursor, HeaderError, Unpacked
from modelward_agent.identity.pickle_opcodes import instructions
from modelward_agent.identity.pickle_scan import PickleScan
from modelward_agent.identity.zip_directory import Archive
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from tests.unit.identity_files import facts_of, written

CLASSES = (OrderedDict, date, Decimal, Fraction, partial, PurePosixPath, LogisticRegression, np.ndarray, os.system, print, len)
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=300)
    | st.sampled_from(CLASSES) | st.dates() | st.decimals() | st.fractions() | st.just(PurePosixPath("/a"))
    | st.just(LogisticRegression(C=2)) | st.just(np.arange(3))
    | st.builds(bytearray, st.binary(max_size=9)) | st.just("é\n\\x" * 400)
)  # fmt: skip
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=4), inner, max_size=4)
        | st.tuples(inner, inner)
        | st.builds(lambda step: Pipeline([("a", step)]), inner)
        | st.builds(lambda value: partial(print, value), inner)
        | st.builds(lambda value: OrderedDict(a=value), inner)
    ),
    max_leaves=12,
)
OPCODES = st.lists(st.sampled_from([opcode.code.encode("latin-1") for opcode in pickletools.opcodes]), max_size=60).map(b"".join)
DAMAGE = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Inert:
    """Stands for whatever a pickle looks up, and does nothing however it is used."""

    def __new__(cls, *_: Any, **__: Any) -> Inert:
        return object.__new__(cls)

    def __call__(self, *_: Any, **__: Any) -> Inert:
        return Inert()

    def __setstate__(self, _: Any) -> None:
        pass

    def append(self, _: Any) -> None:
        pass

    def __setitem__(self, _: Any, __: Any) -> None:
        pass


class Looking(pickle._Unpickler):  # type: ignore[name-defined, misc]
    """pickle's own machine, which writes down what it would look up and looks up nothing."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), fix_imports=False, buffers=())
        self.names: list[str] = []

    def find_class(self, module: str, name: str) -> type[Inert]:
        self.names.append(f"{module}.{name}")
        return Inert

    def persistent_load(self, _: Any) -> Inert:
        return Inert()


def cursor(data: bytes) -> Cursor:
    return Cursor(Unpacked(data, Budget()))


def told_by_both(data: bytes) -> tuple[list[str], list[str], bool, bool]:
    """Names in their order, as pickle's machine and as ours tell them; and whether each came to the end."""
    theirs, ours = Looking(data), PickleScan(cursor(data))
    they_ended = we_ended = True
    try:
        theirs.load()
    except Exception:
        they_ended = False
    try:
        ours.run()
    except ValueError:
        we_ended = False
    return list(dict.fromkeys(theirs.names)), list(ours.names), they_ended, we_ended


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(VALUES, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_names_in_a_pickle_are_others_than_pickle_looks_up(value: Any, protocol: int) -> None:
    theirs, ours, they_ended, we_ended = told_by_both(pickle.dumps(value, protocol))
    assert they_ended
    assert we_ended
    assert ours == theirs


@DAMAGE
@given(VALUES, st.integers(0, pickle.HIGHEST_PROTOCOL), st.data())
def test_a_damaged_pickle_hides_a_name_that_pickle_looks_up(value: Any, protocol: int, data: st.DataObject) -> None:
    raw = bytearray(pickle.dumps(value, protocol))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3) | OPCODES)
    theirs, ours, _, _ = told_by_both(bytes(raw))
    assert ours[: len(theirs)] == theirs


@DAMAGE
@given(st.binary(max_size=60) | OPCODES | st.tuples(OPCODES, st.binary(max_size=30)).map(b"".join))
def test_instructions_are_told_apart_otherwise_than_by_pickletools(data: bytes) -> None:
    theirs, ours = [], []
    try:
        for opcode, _, _ in pickletools.genops(data):
            theirs.append(ord(opcode.code))
    except ValueError:
        pass
    try:
        for code, _ in instructions(cursor(data)):
            ours.append(code)
            if code == ord("."):
                break
    except HeaderError:
        pass
    # pickletools also reads the numbers in a line; what is no number ends it earlier.
    assert ours[: len(theirs)] == theirs


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_gguf_says_something_else_than_to_its_library(tmp_path: Path, data: st.DataObject) -> None:
    texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30)
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", data.draw(st.sampled_from(("llama", "bert"))))
    for key in data.draw(st.lists(st.sampled_from(("name", "version", "basename", "x.y")), unique=True)):
        writer.add_string(f"general.{key}", data.draw(texts))
    for at in range(data.draw(st.integers(0, 4))):
        lists = st.lists(texts, min_size=1, max_size=5) | st.lists(st.integers(0, 9), min_size=1, max_size=5)
        value = data.draw(lists | st.booleans() | st.floats())
        add = writer.add_array if isinstance(value, list) else writer.add_bool if isinstance(value, bool) else writer.add_float64
        add(f"own.{at}", value)
    writer.add_tensor("x", np.zeros(8, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    raw = bytearray((tmp_path / "a.gguf").read_bytes())
    for _ in range(data.draw(st.integers(0, 2))):
        raw[data.draw(st.integers(8, len(raw) - 1))] = data.draw(st.integers(0, 255))
    ours = facts_of(written(tmp_path / "b.gguf", bytes(raw)))
    try:
        fields = gguf.GGUFReader(tmp_path / "b.gguf").fields
        theirs = {key: field.contents() for key, field in fields.items()}
    except Exception:
        return
    assert ours.problem == ""
    assert ours.name == (theirs.get("general.name") or theirs.get("general.basename") or "")
    assert ours.revision == theirs.get("general.version", "")
    assert ours.architecture == theirs.get("general.architecture", "")


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=9), st.binary(max_size=3000), max_size=6),
    st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)),
    st.binary(max_size=50),
)
def test_an_archive_holds_something_else_than_for_zipfile(members: dict[str, bytes], method: int, comment: bytes) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as file:
        file.comment = comment
        for name, content in members.items():
            file.writestr(name, content)
    archive = Archive(Unpacked(made.getvalue(), Budget()))
    assert {name: archive.read(name, 1 << 20) for name in archive.entries} == members
