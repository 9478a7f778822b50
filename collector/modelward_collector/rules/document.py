"""A YAML file as plain data, with the line of everything in it.

Stricter than YAML: a key may stand once, anchors and aliases are refused (a few lines of them expand to
gigabytes), a file holds one document.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from modelward_collector.rules.rule import Problem, RuleError

MAX_BYTES = 256 * 1024
MAX_DEPTH = 40

_QUICK: Any = getattr(yaml, "CSafeLoader", None)
"""libyaml, where PyYAML was built with it: twelve times as fast. It is only believed where it finds nothing wrong."""

_DIFFERS = re.compile(r"\t|\ufeff|[|>][-+0-9]*#")
"""What the readers take differently: tabs, a byte order mark within the text, a comment right after the sign of a block."""

_OPENING = (yaml.BlockSequenceStartToken, yaml.BlockMappingStartToken, yaml.FlowSequenceStartToken, yaml.FlowMappingStartToken)
_CLOSING = (yaml.BlockEndToken, yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken)

_CONSTRUCTORS = (ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError)
"""SafeLoader lets errors of int(), dates and tables of words through for odd scalars, and recurses on deep nesting."""

Path = tuple[str | int, ...]


class _Odd(ValueError):
    """What the two readers understand differently."""


@dataclass(frozen=True, slots=True)
class Document:
    """``data`` as YAML's safe types; ``lines`` from a path of keys and indexes to a line, from 1."""

    file: str
    data: Any
    lines: dict[Path, int]

    def line(self, *path: str | int) -> int:
        """Line of the deepest known part of a path."""
        for end in range(len(path), -1, -1):
            if (found := self.lines.get(path[:end])) is not None:
                return found
        return 1


def read(file: str, raw: bytes) -> Document:
    """Parse one file. Raises :class:`RuleError` for what is no YAML, or YAML that we do not take."""
    if len(raw) > MAX_BYTES:
        raise RuleError([Problem(file, 0, f"file has {len(raw):,} bytes, more than {MAX_BYTES:,}")])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise RuleError([Problem(file, raw[: e.start].count(b"\n") + 1, f"not UTF-8 at byte {e.start}")]) from e
    if _QUICK is not None and not _DIFFERS.search(text):
        try:
            return _parse(file, text, _QUICK)
        except (RuleError, yaml.YAMLError, *_CONSTRUCTORS):
            # Said below, as the other reader says it: its words and lines are the same on every machine.
            pass
    try:
        return _parse(file, text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        said = " ".join(part for part in (e.context, e.problem) if part)
        raise RuleError([Problem(file, mark.line + 1 if mark else 1, f"broken YAML: {said}")]) from e
    except yaml.reader.ReaderError as e:
        line = text.count("\n", 0, e.position) + 1
        raise RuleError([Problem(file, line, f"broken YAML: character U+{ord(str(e.character)[0]):04X}")]) from e
    except _CONSTRUCTORS as e:
        raise RuleError([Problem(file, 1, f"broken YAML: {type(e).__name__}: {e}")]) from e


def _parse(file: str, text: str, reader: Any) -> Document:
    depth = 0
    for token in yaml.scan(text, reader):
        # Counted before anything is built: the readers recurse, and look at every open bracket for each further one.
        depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
        if depth > MAX_DEPTH + 1:
            raise _too_deep(file, token)
        if isinstance(token, yaml.AliasToken | yaml.AnchorToken):
            raise RuleError([Problem(file, token.start_mark.line + 1, "YAML anchors and aliases are not supported")])
        if reader is _QUICK and _is_odd(token):
            raise _Odd
    loader = reader(text)
    try:
        node = loader.get_node() if loader.check_node() else None
        if node is None:
            raise RuleError([Problem(file, 1, "file is empty")])
        if loader.check_node():
            # The quick reader has no line of its own.
            line = getattr(loader, "line", 0) + 1
            raise RuleError([Problem(file, line, "second document: one rule per file")])
        lines: dict[Path, int] = {(): node.start_mark.line + 1}
        _walk(file, node, (), lines)
        return Document(file, loader.construct_document(node), lines)
    finally:
        loader.dispose()


def _too_deep(file: str, where: yaml.Token | yaml.Node) -> RuleError:
    return RuleError([Problem(file, where.start_mark.line + 1, f"nested deeper than {MAX_DEPTH}")])


def _is_odd(token: yaml.Token) -> bool:
    return isinstance(token, yaml.TagToken | yaml.DocumentStartToken) or (
        isinstance(token, yaml.ScalarToken) and token.plain and "?" in token.value)


def _walk(file: str, node: yaml.Node, path: Path, lines: dict[Path, int]) -> None:
    if len(path) > MAX_DEPTH:
        raise _too_deep(file, node)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise RuleError([Problem(file, line, "a key must be a word")])
            if key.tag == "tag:yaml.org,2002:merge":
                raise RuleError([Problem(file, line, "YAML merge keys are not supported")])
            if (*path, key.value) in lines:
                raise RuleError([Problem(file, line, f"key {key.value!r} stands twice")])
            lines[(*path, key.value)] = line
            _walk(file, value, (*path, key.value), lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*path, index)] = value.start_mark.line + 1
            _walk(file, value, (*path, index), lines)
