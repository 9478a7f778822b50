"""Functions are found in real files as ``nm`` finds them, and hostile files neither crash nor mislead whoever looks."""

from __future__ import annotations

import lzma
import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modelward_agent.probes.elf import Elf
from modelward_agent.probes.elf_tables import ElfError, Source

_SOURCE = """
int shown(int a) { return a + 1; }
static int hidden(int a) { return a + 2; }
int shown_data = 7;
int uses(int a) { return hidden(a) + shown_data; }
int main(int argc, char **argv) { return shown(argc) + uses(argc); }
"""

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="the tests of ELF files need gcc")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("elf")


def _build(folder: Path, name: str, *options: str) -> Path:
    path = folder / name
    if not path.exists():
        source = folder / "source.c"
        source.write_text(_SOURCE)
        subprocess.run(["gcc", "-O0", "-o", path, source, *options], check=True)
    return path


def _functions(path: Path, *names: str) -> dict[str, int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        return Elf(Source(fd)).functions(names)
    finally:
        os.close(fd)


def _truth(path: Path, name: str) -> int:
    """Where a function's code lies, by nm and readelf."""
    dynamic = ["-D"] if path.suffix == ".so" else []
    text = subprocess.run(["nm", *dynamic, path], capture_output=True, text=True, check=True).stdout
    [address] = [int(line.split()[0], 16) for line in text.splitlines() if line.split()[-1] == name]
    headers = subprocess.run(["readelf", "-lW", path], capture_output=True, text=True, check=True).stdout
    for line in headers.splitlines():
        parts = line.split()
        if parts[:1] == ["LOAD"] and int(parts[2], 16) <= address < int(parts[2], 16) + int(parts[4], 16):
            return address - int(parts[2], 16) + int(parts[1], 16)
    raise AssertionError(f"{name} is in no segment")


@pytest.mark.parametrize("style", ["gnu", "sysv"])
def test_functions_of_a_library_are_found_by_either_hash_table(folder: Path, style: str) -> None:
    library = _build(folder, f"lib{style}.so", "-shared", "-fPIC", f"-Wl,--hash-style={style}")
    found = _functions(library, "shown", "uses", "hidden", "shown_data", "printf", "missing")
    assert found == {name: _truth(library, name) for name in ("shown", "uses")}


def test_functions_of_a_stripped_library_are_found(folder: Path) -> None:
    library = _build(folder, "libstripped.so", "-shared", "-fPIC", "-s")
    assert _functions(library, "shown") == {"shown": _truth(library, "shown")}


def test_functions_of_a_static_program_are_found_in_its_symbol_table(folder: Path) -> None:
    program = _build(folder, "static", "-static")
    assert _functions(program, "shown", "hidden") == {name: _truth(program, name) for name in ("shown", "hidden")}


def test_a_stripped_static_program_has_none(folder: Path) -> None:
    assert _functions(_build(folder, "bare", "-static", "-s"), "shown") == {}


@pytest.mark.skipif(shutil.which("objcopy") is None, reason="needs objcopy")
def test_functions_of_a_stripped_program_are_found_in_its_compressed_debug_data(folder: Path) -> None:
    program = _build(folder, "whole", "-static")
    debug, packed, small = folder / "debug", folder / "debug.xz", folder / "small"
    subprocess.run(["objcopy", "--only-keep-debug", program, debug], check=True)
    packed.write_bytes(lzma.compress(debug.read_bytes()))
    subprocess.run(["objcopy", "--strip-all", program, small], check=True)
    subprocess.run(["objcopy", "--add-section", f".gnu_debugdata={packed}", small], check=True)
    assert _functions(small, "shown") == {"shown": _truth(program, "shown")}


@pytest.mark.parametrize(("content", "why"), [
    (b"", "is no 64-bit"), (b"\x7fELF", "is no 64-bit"), (b"#!/bin/sh\n" * 20, "is no 64-bit"),
    (b"\x7fELF\x01\x01" + bytes(100), "is no 64-bit"),
    (b"\x7fELF\x02\x01" + bytes(12) + struct.pack("<H", 183) + bytes(100), "another machine"),
])
def test_what_is_no_such_file_is_told(content: bytes, why: str) -> None:
    with pytest.raises(ElfError, match=why):
        Elf(Source(content))


def test_an_offset_outside_of_code_is_never_told(folder: Path) -> None:
    """Symbols that lie about where they are: a probe there would change data."""
    library = _build(folder, "libliar.so", "-shared", "-fPIC", "-Wl,--hash-style=gnu", "-s")
    data = bytearray(library.read_bytes())
    headers = subprocess.run(["readelf", "-lW", library], capture_output=True, text=True, check=True).stdout
    code = [line.split() for line in headers.splitlines() if line.split()[:1] == ["LOAD"] and " E " in line]
    [(start, size)] = [(int(parts[1], 16), int(parts[4], 16)) for parts in code]
    at = _functions(library, "shown")["shown"]
    entry = data.index(struct.pack("<Q", _address(library, "shown")))
    for lie in (0, 8, 1 << 40, (1 << 64) - 1):
        data[entry:entry + 8] = struct.pack("<Q", lie)
        found = Elf(Source(bytes(data))).functions(["shown"])
        assert all(start <= offset < start + size for offset in found.values())
    assert start <= at < start + size


def _address(path: Path, name: str) -> int:
    text = subprocess.run(["nm", "-D", path], capture_output=True, text=True, check=True).stdout
    return next(int(line.split()[0], 16) for line in text.splitlines() if line.split()[-1] == name)


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_a_damaged_file_gives_an_error_or_offsets_inside_it(folder: Path, data: st.DataObject) -> None:
    name, options = data.draw(st.sampled_from([
        ("libgnu.so", ("-shared", "-fPIC", "-Wl,--hash-style=gnu")),
        ("libsysv.so", ("-shared", "-fPIC", "-Wl,--hash-style=sysv")),
        ("plain", ("-Wl,--hash-style=gnu",))]))
    content = bytearray(_build(folder, name, *options).read_bytes())
    for _ in range(data.draw(st.integers(1, 12))):
        # The tables of the linker come first, sections and their symbols last.
        near = data.draw(st.integers(0, 2047))
        at = near if data.draw(st.booleans()) else len(content) - 9 - near
        content[at:at + 8] = data.draw(st.one_of(st.binary(min_size=8, max_size=8), st.sampled_from(
            [bytes(8), b"\xff" * 8, struct.pack("<Q", len(content)), struct.pack("<Q", 1 << 63), struct.pack("<Q", 64)])))
    cut = data.draw(st.integers(0, len(content)))
    for whole in (bytes(content), bytes(content[:cut])):
        try:
            found = Elf(Source(whole)).functions(["shown", "uses", "hidden", "main"])
        except ElfError:
            continue
        assert all(0 <= offset < len(whole) for offset in found.values())


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=4096))
def test_random_bytes_after_a_right_head_give_an_error_or_nothing(rest: bytes) -> None:
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 64, 0, 64, 56, 4, 64, 3, 1)
    try:
        found = Elf(Source(head + rest)).functions(["shown"])
    except ElfError:
        return
    assert all(0 <= offset < len(head + rest) for offset in found.values())
