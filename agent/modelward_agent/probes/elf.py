"""Where functions are in an ELF file: offsets, which is what a probe is attached by.

The file is hostile. Nothing is mapped and nothing is trusted: each table is read by bounded reads, whatever lies outside the file
or the limits ends the look-up, and an offset counts only where the file has code. Names are looked up by hash, so that a library
with 70,000 symbols costs a few reads. Where the linker left no such table (static programs) the symbol table is searched, which
stripping removes; some distributions have it once more, compressed, in ``.gnu_debugdata``.
"""

from __future__ import annotations

import lzma
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from modelward_agent.probes.elf_tables import SYMBOL, ElfError, GnuHash, OldHash, Sections, Source

_MACHINE_X86_64 = 62
_LOAD, _DYNAMIC, _EXECUTABLE = 1, 2, 1
_DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_SYMENT, _DT_GNU_HASH = 4, 5, 6, 10, 11, 0x6FFFFEF5
_FUNCTION = 2
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SEGMENTS, _DYNAMIC_ENTRIES = 256, 4096
_HITS = 4096
"""Places that may look like a name or an entry before a search is given up."""
_PACKED, _UNPACKED = 16 << 20, 64 << 20


@dataclass(frozen=True, slots=True)
class _Segment:
    offset: int
    address: int
    length: int
    executable: bool


@dataclass(frozen=True, slots=True)
class _Linking:
    """Tables of the dynamic linker, as offsets into the file; -1 where there is none."""

    symbols: int = -1
    names: int = -1
    names_length: int = 0
    gnu_hash: int = -1
    hash: int = -1


class Elf:
    """One file."""

    def __init__(self, source: Source) -> None:
        """Raises ElfError: it is no ELF file for this machine."""
        self._source = source
        head = source.read(0, min(64, source.size))
        if len(head) < 64 or head[:6] != b"\x7fELF\x02\x01":
            raise ElfError("is no 64-bit little-endian ELF file")
        machine, = struct.unpack_from("<H", head, 18)
        if machine != _MACHINE_X86_64:
            raise ElfError(f"is for another machine ({machine})")
        at, = struct.unpack_from("<Q", head, 32)
        size, count = struct.unpack_from("<2H", head, 54)
        if size != _SEGMENT.size or count > _SEGMENTS:
            raise ElfError("has program headers of another form")
        self._segments: list[_Segment] = []
        self._dynamic: tuple[int, int] | None = None
        for kind, flags, offset, address, _, length, _, _ in _SEGMENT.iter_unpack(source.read(at, size * count)):
            if kind == _LOAD:
                self._segments.append(_Segment(offset, address, length, bool(flags & _EXECUTABLE)))
            elif kind == _DYNAMIC:
                self._dynamic = (offset, length)

    def functions(self, names: Iterable[str]) -> dict[str, int]:
        """Offsets in the file of those functions that it has, by name.

        Raises:
            ElfError: its tables do not hold together.
        """
        wanted = {name.encode() for name in names}
        found = self._by_hash(wanted) or self._by_search(wanted)
        return {name.decode(): offset for name, offset in found.items()}

    def _offset(self, address: int, *, code: bool) -> int:
        """Where an address lies in the file; -1 outside of it, or outside its code."""
        for segment in self._segments:
            if segment.address <= address < segment.address + segment.length and (segment.executable or not code):
                return address - segment.address + segment.offset
        return -1

    def _function(self, entry: bytes) -> int:
        """Offset of the function that an entry of a symbol table stands for; -1 when it stands for none in this file."""
        _, info, _, section, value, _ = SYMBOL.unpack(entry)
        if info & 15 != _FUNCTION or section == 0:
            return -1
        offset = self._offset(value, code=True)
        return offset if offset < self._source.size else -1

    def _linking(self) -> _Linking:
        if self._dynamic is None:
            return _Linking()
        at, length = self._dynamic
        values: dict[int, int] = {}
        for tag, value in struct.iter_unpack("<QQ", self._source.read(at, min(length, _DYNAMIC_ENTRIES * 16) & ~15)):
            if tag == 0:
                break
            values.setdefault(tag, value)
        if values.get(_DT_SYMENT, SYMBOL.size) != SYMBOL.size:
            raise ElfError("has symbols of another form")
        symbols, names, gnu_hash, old_hash = (
            self._offset(values[tag], code=False) if tag in values else -1
            for tag in (_DT_SYMTAB, _DT_STRTAB, _DT_GNU_HASH, _DT_HASH))
        return _Linking(symbols, names, values.get(_DT_STRSZ, 0), gnu_hash, old_hash)

    def _by_hash(self, wanted: set[bytes]) -> dict[bytes, int]:
        linking = self._linking()
        if linking.symbols < 0 or linking.names < 0 or max(linking.gnu_hash, linking.hash) < 0:
            return {}
        table = GnuHash(self._source, linking.gnu_hash) if linking.gnu_hash >= 0 else OldHash(self._source, linking.hash)
        found: dict[bytes, int] = {}
        for name in wanted:
            for number in table.symbols(name):
                entry = self._source.read(linking.symbols + number * SYMBOL.size, SYMBOL.size)
                text, = struct.unpack_from("<I", entry)
                if text + len(name) >= linking.names_length:
                    continue
                offset = self._function(entry)
                if offset >= 0 and self._source.read(linking.names + text, len(name) + 1) == name + b"\0":
                    found[name] = offset
                    break
        return found

    def _by_search(self, wanted: set[bytes]) -> dict[bytes, int]:
        sections = Sections(self._source)
        table, names = sections.symbols()
        if not table and (packed := sections.contents(b".gnu_debugdata", _PACKED)):
            try:
                unpacked = lzma.LZMADecompressor(memlimit=_UNPACKED).decompress(packed, _UNPACKED)
            except (lzma.LZMAError, EOFError) as e:
                raise ElfError("has debug data that cannot be unpacked") from e
            # An ELF file of its own, without code; its addresses are those of this one.
            table, names = Sections(Source(unpacked)).symbols()
        return self._search(table, names, wanted)

    def _search(self, table: bytes, names: bytes, wanted: set[bytes]) -> dict[bytes, int]:
        found: dict[bytes, int] = {}
        for name in wanted:
            for text in _occurrences(names, name + b"\0"):
                # An entry begins with where its name is.
                for at in _occurrences(table, struct.pack("<Q", text)[:4]):
                    if at % SYMBOL.size or at + SYMBOL.size > len(table) or name in found:
                        continue
                    offset = self._function(table[at:at + SYMBOL.size])
                    if offset >= 0:
                        found[name] = offset
                if name in found:
                    break
        return found


def _occurrences(text: bytes, part: bytes) -> Iterator[int]:
    at = text.find(part)
    for _ in range(_HITS):
        if at < 0:
            return
        yield at
        at = text.find(part, at + 1)
