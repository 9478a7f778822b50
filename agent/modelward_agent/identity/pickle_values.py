"""Stand-ins for what a pickle would make."""

from __future__ import annotations

import re
from collections.abc import Iterable

ITEMS = 16
"""How many members of a value are kept."""

_OF_NO_INTEREST = re.compile(
    r"(?:collections|numpy|numpy\..+|torch\._utils|torch\.storage|_codecs|copyreg|copy_reg|joblib\.numpy_pickle|pathlib)\.[^.]+\Z"
    r"|torch\.(?:\w*Storage|Size|device|dtype|float\d+|bfloat16|int\d+|Tensor|nn\.parameter\.Parameter)\Z"
    r"|functools\.partial\Z"
    r"|(?:builtins|__builtin__)\.(?:dict|list|set|frozenset|tuple|object|str|bytes|bytearray|int|float|complex|bool|slice|range)\Z"
)
"""Classes that hold something else, or make plain data: they say nothing of the model."""


class Thing:
    """Stands for a value that is neither a short text nor a number."""

    __slots__ = ("inner", "items", "made_by", "state")

    def __init__(self, made_by: str = "", items: Iterable[Value] = ()) -> None:
        self.made_by = made_by
        """The class or function that it is or is made by; empty for tuples, lists and so on."""
        self.items: tuple[Value, ...] = ()
        """The first ones of a tuple, or of what it is made with."""
        self.state: dict[str, Value] | None = None
        """The first ones of a dictionary, by those of its keys that are texts."""
        self.inner = ""
        """Class of the first object in it that tells something."""
        kept: list[Value] = []
        for item in items:
            if len(kept) == ITEMS:
                break
            kept.append(item)
            self.hold(item)
        self.items = tuple(kept)

    def hold(self, value: Value) -> None:
        """Note what is put into it."""
        if not self.inner:
            self.inner = class_of(value)


Value = str | int | Thing | None


def class_of(value: Value) -> str:
    """The class that tells most of what a value is; empty for plain data."""
    if not isinstance(value, Thing):
        return ""
    return value.made_by if value.made_by and not _OF_NO_INTEREST.match(value.made_by) else value.inner
