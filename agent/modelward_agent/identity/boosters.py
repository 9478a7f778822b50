"""Gradient boosting: models of XGBoost (JSON and UBJSON) and LightGBM (text)."""

from __future__ import annotations

import re
from typing import NamedTuple

from modelward_agent.identity.header import Cursor, Draft, HeaderError, Reader, member, parse_json, text

_JSON = 8 << 20
_TAIL = 65536
_DEPTH = 32
_KEY = 256
_TEXT = 4096
_LENGTHS = {b"i": ">b", b"U": ">B", b"I": ">h", b"l": ">i", b"L": ">q"}
_SIZES = {b"i": 1, b"U": 1, b"I": 2, b"l": 4, b"L": 8, b"d": 4, b"D": 8, b"C": 1, b"T": 0, b"F": 0, b"Z": 0, b"N": 0}
_XGBOOST_JSON = re.compile(rb'\s*\{\s*"(?:learner|version)"\s*:')
_XGBOOST_UBJSON = re.compile(rb"\{[iUIlL]\0{0,7}\x07(?:learner\{|version\[)")
_BOOSTER_AT_END = re.compile(rb'"name"\s*:\s*"(gbtree|gblinear|dart)"')
_BOOSTER = ("learner", "gradient_booster", "name")
_BOOSTING = re.compile(rb"^\[boosting: (\w{1,64})\]", re.MULTILINE)


def is_xgboost_json(head: bytes) -> bool:
    """Whether it begins like a model that XGBoost wrote as JSON."""
    return _XGBOOST_JSON.match(head) is not None


def is_xgboost_ubjson(head: bytes) -> bool:
    """Whether it begins like a model that XGBoost wrote as UBJSON, its default."""
    return _XGBOOST_UBJSON.match(head) is not None


def is_lightgbm(head: bytes) -> bool:
    """Whether it begins like a model that LightGBM wrote."""
    return head.startswith(b"tree\nversion=v")


def read_xgboost_json(reader: Reader, head: bytes, draft: Draft) -> None:
    """The booster's kind; of a large file as its end tells it. Raises HeaderError, ValueError and RecursionError."""
    if reader.size <= _JSON:
        draft.architecture = text(member(parse_json(reader.at(0, reader.size)), *_BOOSTER))
    else:
        found = _BOOSTER_AT_END.findall(reader.at(reader.size - _TAIL, _TAIL))
        draft.architecture = found[-1].decode() if found else ""


def read_xgboost_ubjson(reader: Reader, head: bytes, draft: Draft) -> None:
    """The booster's kind. Raises HeaderError."""
    draft.architecture = _Ubjson(reader).find(_BOOSTER)


def read_lightgbm(reader: Reader, head: bytes, draft: Draft) -> None:
    """How it was boosted, as the parameters at the end tell; ``gbdt`` is the default. Raises HeaderError."""
    length = min(reader.size, _TAIL)
    found = _BOOSTING.search(reader.at(reader.size - length, length))
    draft.architecture = found[1].decode() if found else ""


class _Open(NamedTuple):
    """An object or array that was begun and not ended yet."""

    is_object: bool
    left: int
    """Of an array that says beforehand how many items it has; -1: until its end is marked."""
    level: int
    """Of an object on the way: how many names lead to it; -1: off the way."""


class _Ubjson:
    """Looks for one text in a UBJSON document; other texts, and arrays of numbers, are not read."""

    def __init__(self, reader: Reader) -> None:
        self._cursor = Cursor(reader)

    def find(self, path: tuple[str, ...]) -> str:
        """The text below these names; empty when there is none."""
        wanted = [each.encode() for each in path]
        if self._cursor.take(1) != b"{":
            raise HeaderError("the header is damaged")
        began = [_Open(True, -1, 0)]
        while began:
            self._cursor.budget.step()
            now = began[-1]
            if now.left == 0:
                began.pop()
                continue
            marker = self._cursor.take(1)
            if now.left > 0:
                began[-1] = now._replace(left=now.left - 1)
            elif marker == (b"}" if now.is_object else b"]"):
                began.pop()
                continue
            level = -1
            if now.is_object:
                name = self._text(marker, _KEY)
                level = now.level + 1 if 0 <= now.level < len(wanted) and name == wanted[now.level] else -1
                marker = self._cursor.take(1)
            if marker in (b"S", b"H"):
                value = self._text(self._cursor.take(1), _TEXT)
                if level == len(wanted):
                    return value.decode("utf-8", "surrogateescape")
            elif marker in (b"{", b"["):
                if len(began) >= _DEPTH:
                    raise HeaderError("the header is nested too deeply")
                began.append(_Open(True, -1, level) if marker == b"{" else self._array())
            elif marker in _SIZES:
                self._cursor.skip(_SIZES[marker])
            else:
                raise HeaderError("the header is damaged")
        return ""

    def _array(self) -> _Open:
        """An array, begun; one of numbers is left out at once."""
        form = self._cursor.peek()
        of = b""
        if form == b"$":
            self._cursor.skip(1)
            of, form = self._cursor.take(1), self._cursor.peek()
        if form != b"#":
            if of:
                raise HeaderError("the header is damaged")
            return _Open(False, -1, -1)
        self._cursor.skip(1)
        count = self._length(self._cursor.take(1))
        if not of:
            return _Open(False, count, -1)
        if of not in _SIZES:
            raise HeaderError("the header is damaged")
        self._cursor.skip(count * _SIZES[of])
        return _Open(False, 0, -1)

    def _length(self, marker: bytes) -> int:
        kind = _LENGTHS.get(marker)
        if kind is None:
            raise HeaderError("the header is damaged")
        length = self._cursor.number(kind)
        if length < 0:
            raise HeaderError("the header is damaged")
        return length

    def _text(self, marker: bytes, kept: int) -> bytes:
        length = self._length(marker)
        found = self._cursor.take(min(length, kept))
        self._cursor.skip(length - len(found))
        return found
