"""Checks of one item of a selection: is the field known, do modifiers and values fit it. Also of fields and
values elsewhere in a rule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from modelward_proto.field import Field
from modelward_proto.fields import BY_NAME

from modelward_collector.rules import regex
from modelward_collector.rules.document import Path
from modelward_collector.rules.rule import nearest

ROW_ONLY = frozenset({"epoch", "batch", "row", "batch.time", "time"})
"""Names of a row and times: not for rules."""

LATE_FIELDS = frozenset(n for n in BY_NAME if n.startswith("model.") and n != "model.instance") | {"lifecycle.origin.model"}
"""Identity binds to an instance after its events were judged, so on the stream these are empty."""

RULE_FIELDS: dict[str, Field] = {n: f for n, f in BY_NAME.items() if n not in ROW_ONLY | LATE_FIELDS}

_TEXT_SHAPES = frozenset({"contains", "startswith", "endswith"})
_NUMBER_SHAPES = frozenset({"gt", "gte", "lt", "lte"})
MODIFIERS: dict[str, frozenset[str]] = {
    "string": _TEXT_SHAPES | {"all", "re", "i", "cased", "cidr", "fieldref"},
    "closed": _TEXT_SHAPES | {"all", "re", "i", "cased"},
    "bool": frozenset({"fieldref"}),
    "number": _NUMBER_SHAPES | {"fieldref"},
}
ALL_MODIFIERS = frozenset().union(*MODIFIERS.values())
NUMBER_RANGE: dict[str, tuple[float, float]] = {
    "u8": (0, 2**8 - 1),
    "u16": (0, 2**16 - 1),
    "u32": (0, 2**32 - 1),
    "u64": (0, 2**64 - 1),
    "i32": (-(2**31), 2**31 - 1),
    "i64": (-(2**63), 2**63 - 1),
    "f64": (float("-inf"), float("inf")),
}


def sort_of(field: Field) -> str:
    """``string``, ``closed``, ``bool`` or ``number``: what decides which modifiers and values fit."""
    return field.type if field.type in ("string", "closed", "bool") else "number"


class ItemChecker:
    """Says what is wrong, and where, through ``say(message, *path)``."""

    def __init__(self, say: Callable[..., None]) -> None:
        self.say = say

    def item(self, key: Any, value: Any, path: Path) -> None:
        name, *modifiers = str(key).split("|")
        field = self.field(name, path)
        for modifier in modifiers:
            if modifier not in ALL_MODIFIERS:
                self.say(f"modifier {modifier!r} is not supported{nearest(modifier, ALL_MODIFIERS)}", *path)
                field = None
        if field is None:
            return
        sort = sort_of(field)
        for modifier in modifiers:
            if modifier not in MODIFIERS[sort]:
                self.say(f"modifier {modifier!r} does not fit {field.name}, which is a {field.type} field", *path)
                return
        self.combination(modifiers, value, path)
        values = value if isinstance(value, list) else [value]
        if not values:
            self.say(f"{field.name} has an empty list of values", *path)
        for index, one in enumerate(values):
            self.value(field, modifiers, one, (*path, index) if isinstance(value, list) else path)

    def field(self, name: str, path: Path) -> Field | None:
        if name in RULE_FIELDS:
            return RULE_FIELDS[name]
        if name in LATE_FIELDS:
            self.say(f"{name} is not supported yet in rules: identity binds after the event is judged", *path)
        elif name in ROW_ONLY:
            self.say(f"{name} names a row or a time and is not for rules", *path)
        else:
            self.say(f"unknown field {name!r}{nearest(name, RULE_FIELDS)}", *path)
        return None

    def combination(self, modifiers: list[str], value: Any, path: Path) -> None:
        shapes = [m for m in modifiers if m not in ("all", "i", "cased")]
        if len(modifiers) != len(set(modifiers)) or len(shapes) > 1:
            self.say(f"modifiers {'|'.join(modifiers)} do not go together", *path)
        if "i" in modifiers and "re" not in modifiers:
            self.say("modifier 'i' goes with 're' only: text ignores case already", *path)
        if "cased" in modifiers and any(m in modifiers for m in ("re", "cidr", "fieldref")):
            self.say("modifier 'cased' goes with plain text only", *path)
        if "all" in modifiers and not any(m in modifiers for m in ("contains", "startswith", "endswith", "re")):
            self.say("modifier 'all' on equality can never hold: add contains, startswith, endswith or re", *path)
        if shapes and shapes[0] in _NUMBER_SHAPES and isinstance(value, list):
            self.say(f"modifier {shapes[0]!r} takes one number", *path)

    def value(self, field: Field, modifiers: list[str], value: Any, path: Path) -> None:
        if "fieldref" in modifiers:
            other = self.field(str(value), path)
            if other is not None and sort_of(other) != sort_of(field):
                self.say(f"{field.name} ({field.type}) and {other.name} ({other.type}) cannot be compared", *path)
            return
        sort = sort_of(field)
        if sort == "bool":
            if not isinstance(value, bool):
                self.say(f"{field.name} is true or false, not {value!r}", *path)
        elif sort == "number":
            self.number(field, value, path)
        elif not isinstance(value, str):
            self.say(f"{field.name} is text; write {str(value)!r} in quotes", *path)
        elif set(value) == {"*"} or (not value and modifiers):
            self.say(f"{field.name} is always so: an empty text or a lone wildcard tests nothing", *path)
        elif "re" in modifiers:
            try:
                regex.common(value, "i" in modifiers)
            except regex.RegexError as e:
                self.say(f"regular expression {value!r}: {e}", *path)
        elif sort == "closed" and not modifiers and "*" not in value and "?" not in value and value.lower() not in field.values:
            self.say(
                f"{field.name} is never {value!r}{nearest(value, field.values)}; it is one of {', '.join(field.values)}",
                *path,
            )

    def number(self, field: Field, value: Any, path: Path) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.say(f"{field.name} is a number, not {value!r}", *path)
            return
        low, high = NUMBER_RANGE[field.type]
        if not low <= value <= high:
            self.say(f"{field.name} is a number from {low:,} to {high:,}, never {value:,}", *path)
        elif isinstance(value, float) and field.type != "f64":
            self.say(f"{field.name} is a whole number, not {value!r}", *path)

    def row_value(self, field: Field, value: Any, path: Path) -> None:
        """A value of an event is a plain one: no wildcard, no list."""
        if field.type == "closed":
            if value not in field.values:
                self.say(f"{field.name} is never {value!r}{nearest(value, field.values)}", *path)
        elif field.type == "string":
            if not isinstance(value, str):
                self.say(f"{field.name} is text; write {str(value)!r} in quotes", *path)
        elif field.type == "bool":
            if not isinstance(value, bool):
                self.say(f"{field.name} is true or false, not {value!r}", *path)
        else:
            self.number(field, value, path)
