"""Checks of a rule file against the field table and our keys, before pySigma reads it: pySigma accepts typos.

Every finding has a line and the nearest known name. Nothing passes that a back end would not carry out in full.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from typing import Any

from modelward_proto.fields import BY_NAME, EVENT_NAMES, Field

from modelward_collector.rules.document import Document, Path
from modelward_collector.rules.rule import RESPONSES, SEVERITIES, Problem, nearest

TOP_KEYS = frozenset(
    {
        "title",
        "id",
        "status",
        "description",
        "references",
        "author",
        "date",
        "modified",
        "logsource",
        "detection",
        "falsepositives",
        "level",
        "tags",
        "license",
        "modelward",
    }
)
REQUIRED_KEYS = ("title", "id", "level", "tags", "logsource", "detection", "modelward")
STATUSES = ("stable", "test", "experimental", "deprecated", "unsupported")
OUR_KEYS = frozenset({"reason", "next", "sentence", "response", "group", "tests"})
OUR_REQUIRED = ("reason", "next", "sentence", "tests")
LOGSOURCE_KEYS = frozenset({"product", "category", "definition"})
CORRELATION_KEYS = frozenset({"correlation", "action", "filter"})

ROW_ONLY = frozenset({"epoch", "batch", "row", "batch.time", "time"})
"""Names of a row and times: not for rules."""

LATE_FIELDS = frozenset(n for n in BY_NAME if n.startswith("model.") and n != "model.instance") | {
    "lifecycle.origin.model"
}
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
PLACEHOLDER = re.compile(r"\{([^{}]*)\}")

_ATTACK = re.compile(r"attack\.t\d{4}(?:\.\d{3})?\Z")
_ATLAS = re.compile(r"atlas\.aml\.t\d{4}(?:\.\d{3})?\Z")


def sort_of(field: Field) -> str:
    """``string``, ``closed``, ``bool`` or ``number``: what decides which modifiers and values fit."""
    return field.type if field.type in ("string", "closed", "bool") else "number"


class Validator:
    """Walks one document and gathers its problems."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []

    def say(self, message: str, *path: str | int) -> None:
        self.problems.append(Problem(self.document.file, self.document.line(*path), message))

    def run(self) -> list[Problem]:
        data = self.document.data
        if not isinstance(data, dict):
            self.say("a rule is a mapping of keys")
            return self.problems
        if found := [key for key in data if key in CORRELATION_KEYS]:
            self.say(
                f"{found[0]!r}: correlations and filters are not supported yet by this version", found[0]
            )
            return self.problems
        self.keys(data, TOP_KEYS, REQUIRED_KEYS)
        for key in ("title", "description", "author", "license"):
            if key in data:
                self.text(data[key], key)
        self.identity(data)
        self.choice(data, "level", SEVERITIES)
        self.choice(data, "status", STATUSES)
        for key in ("references", "falsepositives"):
            if key in data and not (
                isinstance(data[key], list) and all(isinstance(item, str) for item in data[key])
            ):
                self.say(f"{key!r} is a list of texts", key)
        self.tags(data.get("tags", []))
        self.logsource(data.get("logsource", {}))
        self.detection(data.get("detection", {}))
        self.ours(data.get("modelward", {}))
        return self.problems

    def keys(
        self, data: dict[Any, Any], known: Iterable[str], required: Iterable[str], *path: str | int
    ) -> None:
        for key in data:
            if key not in known:
                self.say(f"unknown key {key!r}{nearest(key, known)}", *path, str(key))
        where = f" in {'.'.join(map(str, path))!r}" if path else ""
        for key in required:
            if key not in data:
                self.say(f"key {key!r} is missing{where}", *path)

    def text(self, value: Any, *path: str | int) -> None:
        if not isinstance(value, str) or not value.strip():
            self.say(f"{path[-1]!r} is a text, not {value!r}", *path)

    def identity(self, data: dict[str, Any]) -> None:
        if "id" in data:
            try:
                uuid.UUID(str(data["id"]))
            except ValueError:
                self.say(f"'id' is a UUID, not {data['id']!r}", "id")

    def choice(self, data: dict[str, Any], key: str, known: tuple[str, ...], *path: str | int) -> None:
        if key in data and data[key] not in known:
            self.say(
                f"{key!r} is one of {', '.join(known)}, not {data[key]!r}{nearest(data[key], known)}",
                *path,
                key,
            )

    def tags(self, tags: Any) -> None:
        if not isinstance(tags, list):
            self.say("'tags' is a list", "tags")
            return
        for index, tag in enumerate(tags):
            if not isinstance(tag, str) or not (_ATTACK.match(tag) or _ATLAS.match(tag)):
                self.say(
                    f"tag {tag!r} is neither attack.tNNNN[.NNN] nor atlas.aml.tNNNN[.NNN]", "tags", index
                )
        for pattern, name in ((_ATTACK, "ATT&CK (attack.tNNNN)"), (_ATLAS, "ATLAS (atlas.aml.tNNNN)")):
            if not any(isinstance(tag, str) and pattern.match(tag) for tag in tags):
                self.say(f"no {name} technique in 'tags'", "tags")

    def logsource(self, source: Any) -> None:
        if not isinstance(source, dict):
            self.say("'logsource' is a mapping", "logsource")
            return
        self.keys(source, LOGSOURCE_KEYS, ("product",), "logsource")
        if "product" in source and source["product"] != "modelward":
            self.say(f"'product' is modelward, not {source['product']!r}", "logsource", "product")
        self.choice(source, "category", tuple(EVENT_NAMES.values()), "logsource")

    def detection(self, detection: Any) -> None:
        if not isinstance(detection, dict):
            self.say("'detection' is a mapping", "detection")
            return
        if "condition" not in detection:
            self.say("key 'condition' is missing in 'detection'", "detection")
        for name, body in detection.items():
            if name == "timeframe":
                self.say("'timeframe' is not supported yet by this version", "detection", name)
            elif name == "condition":
                if not isinstance(body, str):
                    self.say("'condition' is one expression, as text", "detection", name)
            else:
                self.selection(body, ("detection", name))

    def selection(self, body: Any, path: Path) -> None:
        if isinstance(body, dict) and body:
            for key, value in body.items():
                self.item(key, value, (*path, key))
        elif isinstance(body, list) and body and all(isinstance(part, dict) for part in body):
            for index, part in enumerate(body):
                self.selection(part, (*path, index))
        else:
            self.say(
                "a selection is a mapping of fields, or a list of such mappings; keywords are not supported",
                *path,
            )

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
                self.say(
                    f"modifier {modifier!r} does not fit {field.name}, which is a {field.type} field", *path
                )
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
        if "all" in modifiers and not any(
            m in modifiers for m in ("contains", "startswith", "endswith", "re")
        ):
            self.say(
                "modifier 'all' on equality can never hold: add contains, startswith, endswith or re", *path
            )
        if shapes and shapes[0] in _NUMBER_SHAPES and isinstance(value, list):
            self.say(f"modifier {shapes[0]!r} takes one number", *path)

    def value(self, field: Field, modifiers: list[str], value: Any, path: Path) -> None:
        if "fieldref" in modifiers:
            other = self.field(str(value), path)
            if other is not None and sort_of(other) != sort_of(field):
                self.say(
                    f"{field.name} ({field.type}) and {other.name} ({other.type}) cannot be compared", *path
                )
            return
        sort = sort_of(field)
        if sort == "bool":
            if not isinstance(value, bool):
                self.say(f"{field.name} is true or false, not {value!r}", *path)
        elif sort == "number":
            self.number(field, value, path)
        elif not isinstance(value, str):
            self.say(f"{field.name} is text; write {str(value)!r} in quotes", *path)
        elif (
            (set(value) == {"*"}
            and "re" not in modifiers)
            or (not value and _TEXT_SHAPES.intersection(modifiers))
        ):
            self.say(f"{field.name} is always so: an empty text or a lone wildcard tests nothing", *path)
        elif (
            sort == "closed"
            and not modifiers
            and "*" not in value
            and "?" not in value
            and value.lower() not in field.values
        ):
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

    def ours(self, ours: Any) -> None:
        if not isinstance(ours, dict):
            self.say("'modelward' is a mapping", "modelward")
            return
        self.keys(ours, OUR_KEYS, OUR_REQUIRED, "modelward")
        for key in ("reason", "next", "sentence"):
            if key in ours:
                self.text(ours[key], "modelward", key)
        self.choice(ours, "response", RESPONSES, "modelward")
        if isinstance(ours.get("sentence"), str):
            self.sentence(ours["sentence"])
        group = ours.get("group", [])
        if not isinstance(group, list):
            self.say("'group' is a list of fields", "modelward", "group")
        else:
            for index, name in enumerate(group):
                self.field(str(name), ("modelward", "group", index))
        self.tests(ours.get("tests", {}))

    def sentence(self, template: str) -> None:
        path: Path = ("modelward", "sentence")
        for name in PLACEHOLDER.findall(template):
            if name != "artifact":
                self.field(name, path)
        rest = PLACEHOLDER.sub("", template)
        if "{" in rest or "}" in rest:
            self.say("a brace in 'sentence' that belongs to no {field}", *path)

    def tests(self, tests: Any) -> None:
        path: Path = ("modelward", "tests")
        if not isinstance(tests, dict):
            self.say("'tests' is a mapping of 'match' and 'no_match'", *path)
            return
        self.keys(tests, ("match", "no_match"), ("match", "no_match"), *path)
        for key in ("match", "no_match"):
            rows = tests.get(key, [{}])
            if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
                self.say(f"{key!r} is a list of events, at least one", *path, key)
                continue
            for index, row in enumerate(rows):
                for name, value in row.items():
                    at: Path = (*path, key, index, name)
                    if (field := self.field(str(name), at)) is not None:
                        self.row_value(field, value, at)

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
