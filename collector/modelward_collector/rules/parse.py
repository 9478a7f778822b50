"""From a file's bytes to a :class:`Rule`: our checks first, then pySigma, then its condition tree turned
into ours.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import PurePath
from typing import Any

import yaml
from modelward_proto.field import Field
from modelward_proto.fields import BY_NAME
from sigma.conditions import (
    ConditionAND,
    ConditionFieldEqualsValueExpression,
    ConditionIdentifier,
    ConditionItem,
    ConditionNOT,
    ConditionOR,
    ConditionSelector,
)
from sigma.exceptions import SigmaError
from sigma.rule import SigmaDetectionItem, SigmaRule
from sigma.types import (
    SigmaBool,
    SigmaCasedString,
    SigmaCIDRExpression,
    SigmaCompareExpression,
    SigmaFieldReference,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaRegularExpressionFlag,
    SigmaString,
    SpecialChars,
)

from modelward_collector.rules import regex
from modelward_collector.rules.document import Document, read
from modelward_collector.rules.items import RULE_FIELDS
from modelward_collector.rules.rule import Problem, Rule, RuleError, nearest
from modelward_collector.rules.tree import (
    Cidr,
    Compare,
    Glob,
    Is,
    Node,
    Not,
    OneOf,
    Operator,
    Regex,
    Same,
    Text,
    Wild,
    conjunction,
    disjunction,
    fold,
)
from modelward_collector.rules.validate import Validator

DEFAULT_GROUP = ("workload.id", "lifecycle.origin.instance", "process.root_id")

_OPERATORS: dict[str, Operator] = {"LT": "<", "LTE": "<=", "GT": ">", "GTE": ">="}
_WILDS = {SpecialChars.WILDCARD_MULTI: Wild.ANY, SpecialChars.WILDCARD_SINGLE: Wild.ONE}


def parse(file: str, raw: bytes) -> Rule:
    """The rule of one file. Raises :class:`RuleError` with every problem found; ``file`` is only named in
    them.
    """
    document = read(file, raw)
    problems = Validator(document).run() or _items(document)
    if problems:
        raise RuleError(problems)
    try:
        sigma = SigmaRule.from_dict(document.data)
        tree = _translate(_condition(document, sigma))
    except (SigmaError, regex.RegexError, yaml.YAMLError, ValueError, TypeError, RecursionError) as e:
        raise RuleError([Problem(file, document.line("detection", "condition"), _said(e))]) from e
    return _rule(document, raw, tree)


def _said(error: Exception) -> str:
    return str(error).strip() or type(error).__name__


def _items(document: Document) -> list[Problem]:
    """Have pySigma read each item by itself, so that what it finds wrong has a line."""
    problems: list[Problem] = []

    def visit(body: Any, path: tuple[str | int, ...]) -> None:
        if isinstance(body, list):
            for index, part in enumerate(body):
                visit(part, (*path, index))
            return
        for key, value in body.items():
            try:
                item = SigmaDetectionItem.from_mapping(key, value)
                for one in item.value:
                    _leaf(RULE_FIELDS[key.split("|")[0]], one)
            except (SigmaError, ValueError, TypeError) as e:
                problems.append(Problem(document.file, document.line(*path, key), f"{key}: {_said(e)}"))

    for name, body in document.data["detection"].items():
        if name != "condition":
            visit(body, ("detection", name))
    return problems


def _condition(document: Document, sigma: SigmaRule) -> Any:
    """The parsed condition; a selection that it does not use, or uses but is not there, is an error."""
    detections = sigma.detection
    parsed = detections.parsed_condition[0]
    used: set[str] = set()

    def visit(item: Any) -> None:
        if isinstance(item, ConditionIdentifier):
            if item.identifier not in detections.detections:
                known = detections.detections
                raise SigmaError(f"condition names {item.identifier!r}, no selection{nearest(item.identifier, known)}")
            used.add(item.identifier)
        elif isinstance(item, ConditionSelector):
            used.update(found.identifier for found in item.resolve_referenced_detections(detections))
        elif isinstance(item, ConditionItem):
            for argument in item.args:
                visit(argument)

    visit(parsed.parse(postprocess=False))
    if unused := [name for name in detections.detections if name not in used]:
        line = document.line("detection", unused[0])
        raise RuleError([Problem(document.file, line, f"selection {unused[0]!r} is not used by the condition")])
    return parsed.parsed


def _translate(item: Any) -> Node:
    if isinstance(item, ConditionAND):
        return conjunction(tuple(_translate(argument) for argument in item.args))
    if isinstance(item, ConditionOR):
        return disjunction(tuple(_translate(argument) for argument in item.args))
    if isinstance(item, ConditionNOT):
        return Not(_translate(item.args[0]))
    if isinstance(item, ConditionFieldEqualsValueExpression):
        return _leaf(RULE_FIELDS[item.field], item.value)
    raise SigmaError(f"condition holds {type(item).__name__}, which is not supported")


def _leaf(field: Field, value: Any) -> Node:
    if isinstance(value, SigmaBool):
        return Is(field, value.boolean)
    if isinstance(value, SigmaNumber):
        return Compare(field, "==", value.number)
    if isinstance(value, SigmaCompareExpression):
        return Compare(field, _OPERATORS[value.op.name], value.number.number)
    if isinstance(value, SigmaFieldReference):
        return Same(field, RULE_FIELDS[value.field])
    if isinstance(value, SigmaCIDRExpression):
        return Cidr(field, value.network)
    if isinstance(value, SigmaRegularExpression):
        pattern = regex.common(str(value.regexp.original), SigmaRegularExpressionFlag.IGNORECASE in value.flags)
        return _on_closed(field, pattern) if field.type == "closed" else Regex(field, pattern)
    if isinstance(value, SigmaString):
        cased = isinstance(value, SigmaCasedString)
        glob = _glob(value, cased)
        return _on_closed(field, glob_pattern(glob)) if field.type == "closed" else Text(field, glob, cased)
    raise SigmaError(f"value {value!r} is not supported")


def _glob(value: SigmaString, cased: bool) -> Glob:
    parts: list[str | Wild] = []
    for part in value.s:
        if isinstance(part, str):
            parts.append(part if cased else fold(part))
        elif (wild := _WILDS.get(part)) is not None:
            if not (parts and wild is Wild.ANY and parts[-1] is Wild.ANY):
                parts.append(wild)
        else:
            raise SigmaError(f"placeholder {part!r} is not supported")
    return tuple(parts)


def glob_pattern(glob: Glob) -> str:
    """A pattern for the whole text, in the subset both engines share."""
    wild = {Wild.ANY: ".*", Wild.ONE: "."}
    return "(?s)^" + "".join(regex.escape(part) if isinstance(part, str) else wild[part] for part in glob) + "$"


def _on_closed(field: Field, pattern: str) -> OneOf:
    held = frozenset(value for value in field.values if re.search(pattern.replace("(?-u:", "(?:"), value))
    if not held:
        raise ValueError(f"no value of {field.name} satisfies it; its values are {', '.join(field.values)}")
    return OneOf(field, held)


def _rule(document: Document, raw: bytes, tree: Node) -> Rule:
    data: dict[str, Any] = document.data
    ours: dict[str, Any] = data["modelward"]
    default: dict[str, Any] = {}
    if category := data["logsource"].get("category"):
        tree = conjunction((OneOf(BY_NAME["event.name"], frozenset({category})), tree))
        default = {"event.name": category}
    tests = ours["tests"]
    return Rule(
        id=str(data["id"]),
        name=PurePath(document.file).stem,
        title=data["title"].strip(),
        version=hashlib.sha256(raw).hexdigest()[:12],
        severity=data["level"],
        response=ours.get("response", "observe"),
        attack=tuple(_mitre(tag) for tag in data["tags"]),
        reason=_paragraph(ours["reason"]),
        next_step=_paragraph(ours["next"]),
        sentence=_paragraph(ours["sentence"]),
        group=tuple(ours.get("group", DEFAULT_GROUP)),
        tree=tree,
        match=tuple({**default, **row} for row in tests["match"]),
        no_match=tuple({**default, **row} for row in tests["no_match"]),
        file=document.file,
        lines=tuple(
            (f"{kind} {index + 1}", document.line("modelward", "tests", kind, index))
            for kind in ("match", "no_match")
            for index in range(len(tests[kind]))
        ),
    )


def _mitre(tag: str) -> str:
    """``attack.t1059.004`` -> ``T1059.004``, ``atlas.aml.t0011`` -> ``AML.T0011``."""
    return tag.partition(".")[2].upper()


def _paragraph(text: str) -> str:
    return " ".join(text.split())
