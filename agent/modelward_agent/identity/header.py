"""Bounded reading of a file's header, and what headers tell."""

from __future__ import annotations

import os
from dataclasses import dataclass

NAME = 256
"""Longest name that is taken from a header."""


@dataclass(frozen=True, slots=True)
class Facts:
    """``format`` is never empty; ``name`` and ``revision`` are what the file claims, unchecked."""

    format: str
    name: str = ""
    revision: str = ""
    architecture: str = ""
    quantization: str = ""
    base: str = ""
    problem: str = ""
    """Why the header could not be read to its end."""


class HeaderError(ValueError):
    """A header is cut off, too large or not what its format allows."""


class Reader:
    """Random access with a budget, so that no header can make us read the whole file."""

    def __init__(self, fd: int, size: int, budget: int = 32 << 20) -> None:
        self._fd = fd
        self.size = size
        self._budget = budget

    def at(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes.

        Raises:
            HeaderError: the file ends before, or the budget is spent.
        """
        if offset < 0 or length < 0 or offset + length > self.size:
            raise HeaderError("the header points outside the file")
        self._budget -= length
        if self._budget < 0:
            raise HeaderError("the header is too large")
        parts: list[bytes] = []
        while length:
            part = os.pread(self._fd, length, offset)
            if not part:
                raise HeaderError("the file is cut off")
            parts.append(part)
            offset += len(part)
            length -= len(part)
        return b"".join(parts)
