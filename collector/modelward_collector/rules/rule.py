"""What a parsed rule is, and what is said when a file is none."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from modelward_proto.fields import Response, Severity

from modelward_collector.rules.tree import Node

Value = str | int | float | bool
Row = Mapping[str, Value]
"""One event of a rule's own test: field name to value; what is absent is the field's zero."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a rule, at a place a person can go to. ``line`` counts from 1; 0 is the file as
    a whole.
    """

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


class RuleError(Exception):
    """A file that is not a rule: every problem found in it, in the order of its lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(problems, key=lambda problem: problem.line)
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that passed every check. Both back ends compile :attr:`tree`."""

    id: str
    name: str
    title: str
    version: str
    """First 12 hex digits of the file's sha256."""
    severity: Severity
    response: Response
    attack: tuple[str, ...]
    """ATT&CK and ATLAS ids, as MITRE writes them: ``T1059.004``, ``AML.T0011``."""
    reason: str
    next_step: str
    sentence: str
    group: tuple[str, ...]
    """Names of the fields whose values, with host and rule, tell which detections belong together."""
    tree: Node
    match: tuple[Row, ...]
    no_match: tuple[Row, ...]
    file: str
    lines: tuple[tuple[str, int], ...]
    """Line of each own test, by ``match 1``, ``no_match 2``, ..."""


def nearest(word: object, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` or nothing: what a person most likely meant."""
    names = list(known)
    folded = {name.lower(): name for name in names}
    found = difflib.get_close_matches(str(word).lower(), list(folded), n=1, cutoff=0.55)
    return f" (did you mean {folded[found[0]]!r}?)" if found else ""
