"""Checks of a rule file against the field table and our keys, before pySigma reads it: pySigma accepts typos.

Every finding has a line and the nearest known name. Nothing passes that a back end would not carry out in
full.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from typing import Any

from modelward_proto.fields import EVENT_NAMES, RESPONSES, SEVERITIES

from modelward_collector.rules.document import Document, Path
from modelward_collector.rules.items import ItemChecker
from modelward_collector.rules.rule import Problem, nearest

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

PLACEHOLDER = re.compile(r"\{([^{}]*)\}")

_ATTACK = re.compile(r"attack\.t\d{4}(?:\.\d{3})?\Z")
_ATLAS = re.compile(r"atlas\.aml\.t\d{4}(?:\.\d{3})?\Z")


class Validator:
    """Walks one document and gathers its problems."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []
        self.items = ItemChecker(self.say)

    def say(self, message: str, *path: str | int) -> None:
        self.problems.append(Problem(self.document.file, self.document.line(*path), message))

    def run(self) -> list[Problem]:
        data = self.document.data
        if not isinstance(data, dict):
            self.say("a rule is a mapping of keys")
            return self.problems
        if found := [key for key in data if key in CORRELATION_KEYS]:
            self.say(f"{found[0]!r}: correlations and filters are not supported yet by this version", found[0])
            return self.problems
        self.keys(data, TOP_KEYS, REQUIRED_KEYS)
        for key in ("title", "description", "author", "license"):
            if key in data:
                self.text(data[key], key)
        self.identity(data)
        self.choice(data, "level", SEVERITIES)
        self.choice(data, "status", STATUSES)
        for key in ("references", "falsepositives"):
            if key in data and not (isinstance(data[key], list) and all(isinstance(item, str) for item in data[key])):
                self.say(f"{key!r} is a list of texts", key)
        self.tags(data.get("tags", []))
        self.logsource(data.get("logsource", {}))
        self.detection(data.get("detection", {}))
        self.ours(data.get("modelward", {}))
        return self.problems

    def keys(self, data: dict[Any, Any], known: Iterable[str], required: Iterable[str], *path: str | int) -> None:
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
                self.say(f"tag {tag!r} is neither attack.tNNNN[.NNN] nor atlas.aml.tNNNN[.NNN]", "tags", index)
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
                self.items.item(key, value, (*path, key))
        elif isinstance(body, list) and body and all(isinstance(part, dict) for part in body):
            for index, part in enumerate(body):
                self.selection(part, (*path, index))
        else:
            self.say(
                "a selection is a mapping of fields, or a list of such mappings; keywords are not supported",
                *path,
            )

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
                self.items.field(str(name), ("modelward", "group", index))
        self.tests(ours.get("tests", {}))

    def sentence(self, template: str) -> None:
        path: Path = ("modelward", "sentence")
        for name in PLACEHOLDER.findall(template):
            if name != "artifact":
                self.items.field(name, path)
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
                    if (field := self.items.field(str(name), at)) is not None:
                        self.items.row_value(field, value, at)
