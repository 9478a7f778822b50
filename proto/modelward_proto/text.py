"""Text from a workload is hostile: one reversible escape makes it valid, inert UTF-8.

The agent escapes every text before it leaves the host; wire, rules, store and screens see only the escaped form.
Escaped are: bytes that are not valid UTF-8, C0 and C1 controls, DEL, bidirectional and other invisible format
characters (Unicode categories Cc, Cf, Zl, Zp, Cs, Co, Cn) and the backslash itself, each byte as ``\\xNN`` in lower-case hex.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_PLAIN = re.compile(rb"[\x20-\x5b\x5d-\x7e]*\Z")
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")
_HIDDEN = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn"})


def escape(raw: bytes) -> str:
    """Turn any bytes into inert text. Reversed by :func:`unescape`; plain printable ASCII stays as it is."""
    if _PLAIN.match(raw):
        return raw.decode("ascii")
    # Long texts are not kept: a workload could fill the memory with them.
    return _escape_kept(raw) if len(raw) <= 256 else _escape(raw)


@lru_cache(maxsize=16384)
def _escape_kept(raw: bytes) -> str:
    return _escape(raw)


def _escape(raw: bytes) -> str:
    parts: list[str] = []
    for char in raw.decode("utf-8", "surrogateescape"):
        code = ord(char)
        if 0xDC80 <= code <= 0xDCFF:
            parts.append(f"\\x{code - 0xDC00:02x}")
        elif char == "\\" or (code != 0x20 and unicodedata.category(char) in _HIDDEN):
            parts.extend(f"\\x{byte:02x}" for byte in char.encode("utf-8"))
        else:
            parts.append(char)
    return "".join(parts)


def unescape(text: str) -> bytes:
    """The bytes that :func:`escape` was given."""
    return _ESCAPED.sub(lambda m: bytes((int(m.group(1), 16),)), text.encode("utf-8"))


def is_inert(text: str) -> bool:
    """Whether a text holds nothing that the escape would have removed (a lone backslash that starts no escape counts)."""
    raw = text.encode("utf-8", "surrogatepass")
    without = _ESCAPED.sub(b"", raw)
    return b"\\" not in without and escape(without) == without.decode("utf-8", "replace")


def quote_arguments(arguments: list[bytes]) -> str:
    """One command line from an argument vector, escaped and quoted so that it splits back to the same arguments.

    An argument that is empty or holds a space or a quote stands in single quotes; a single quote within is ``\\x27``.
    """
    shown: list[str] = []
    for argument in arguments:
        text = escape(argument)
        if not text or any(c in text for c in " '\"$`|&;<>()*?[]#~"):
            text = "'" + text.replace("'", "\\x27") + "'"
        shown.append(text)
    return " ".join(shown)


def split_arguments(line: str) -> list[bytes]:
    """The argument vector that :func:`quote_arguments` was given."""
    found: list[bytes] = []
    position = 0
    while position < len(line):
        if line[position] == "'":
            end = line.index("'", position + 1)
            found.append(unescape(line[position + 1 : end]))
            position = end + 2
        else:
            end = line.find(" ", position)
            end = len(line) if end < 0 else end
            found.append(unescape(line[position:end]))
            position = end + 1
    return found
