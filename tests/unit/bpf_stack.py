"""How deep the stacks of BPF programs become, read from an object file.

The verifier adds up the frames along each chain of calls. Until Linux 6.9 it rounds every frame up to 32 bytes, an empty one too;
later kernels round less, so that a program may load here and be refused there (kernel/bpf/verifier.c, check_max_stack_depth).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

MOST_BYTES, MOST_FRAMES, ROUNDED = 512, 8, 32
_CALL, _LOAD_64, _ADD = 0x85, 0x18, 0x07
_TO_FUNCTION, _FRAME = 1, 10
_LDX, _ST, _STX = 1, 2, 3
_SYMBOLS, _RELOCATIONS = 2, 9
_IS_FUNCTION = 2


@dataclass
class Function:
    """Bytes of its own frame, and what it calls or hands on to be called."""

    frame: int
    calls: set[str]


@dataclass(frozen=True)
class _Symbol:
    name: str
    is_function: bool
    section: int
    at: int
    size: int


def functions(path: Path) -> dict[str, Function]:
    """All functions of an object by name: programs, and what they call."""
    data = path.read_bytes()
    sections = _sections(data)
    [table] = [section for section in sections if section[1] == _SYMBOLS]
    symbols = [_symbol(data, sections[table[6]][4], table[4] + at) for at in range(0, table[5], 24)]
    targets: dict[tuple[int, int], _Symbol] = {}
    for section in sections:
        if section[1] != _RELOCATIONS:
            continue
        at, size, of = section[4], section[5], section[7]
        for entry in range(at, at + size, 16):
            where, info = struct.unpack_from("<QQ", data, entry)
            targets[of, where] = symbols[info >> 32]
    starts = {(s.section, s.at): s.name for s in symbols if s.is_function and s.size}
    return {s.name: _function(data, sections[s.section][4], s, targets, starts) for s in symbols if s.is_function and s.size}


def deepest(found: dict[str, Function], name: str) -> tuple[int, list[str]]:
    """Bytes of the deepest chain of calls that begins with a function, as old kernels count them, and the chain."""
    own = max(ROUNDED, -(-found[name].frame // ROUNDED) * ROUNDED)
    below = max((deepest(found, called) for called in found[name].calls), default=(0, []))
    return own + below[0], [name, *below[1]]


def longest(found: dict[str, Function], name: str) -> int:
    """Frames of the longest chain."""
    return 1 + max((longest(found, called) for called in found[name].calls), default=0)


def _sections(data: bytes) -> list[tuple[int, ...]]:
    at, = struct.unpack_from("<Q", data, 0x28)
    count, = struct.unpack_from("<H", data, 0x3C)
    return [struct.unpack_from("<IIQQQQIIQQ", data, at + 64 * number) for number in range(count)]


def _symbol(data: bytes, names: int, at: int) -> _Symbol:
    name, info, _, section, value, size = struct.unpack_from("<IBBHQQ", data, at)
    return _Symbol(data[names + name : data.index(b"\0", names + name)].decode(), info & 15 == _IS_FUNCTION, section, value, size)


def _function(
    data: bytes, base: int, symbol: _Symbol, targets: dict[tuple[int, int], _Symbol], starts: dict[tuple[int, int], str]
) -> Function:
    found = Function(0, set())
    at = symbol.at
    while at < symbol.at + symbol.size:
        code, registers, offset, value = struct.unpack_from("<BBhi", data, base + at)
        to, source, kind = registers & 15, registers >> 4, code & 7
        if (kind == _LDX and source == _FRAME) or (kind in (_ST, _STX) and to == _FRAME):
            found.frame = max(found.frame, -offset)
        elif code == _ADD and -MOST_BYTES <= value < 0:
            # A pointer into the frame is the frame's end less so much.
            found.frame = max(found.frame, -value)
        target = targets.get((symbol.section, at))
        place: tuple[int, int] | None = None
        if code == _CALL and source == _TO_FUNCTION:
            place = (symbol.section, at + 8 + 8 * value)
            if target is not None:
                place = (target.section, target.at if target.is_function else 8 * (value + 1))
        elif code == _LOAD_64 and target is not None:
            place = (target.section, target.at if target.is_function else value)
        if place in starts:
            found.calls.add(starts[place])
        at += 16 if code == _LOAD_64 else 8
    return found
