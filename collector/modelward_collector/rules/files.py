"""Rule files that a person names: read, checked and told by file and line, without a collector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from modelward_collector.rules.class_lists import SHIPPED
from modelward_collector.rules.classes import Classes
from modelward_collector.rules.document import read
from modelward_collector.rules.parse import parse
from modelward_collector.rules.reload import CLASSES, PACK
from modelward_collector.rules.rule import Problem, Rule, RuleError


class NoRules(Exception):
    """A path that a person gave holds no rule; the message says which and why."""


@dataclass(slots=True)
class RuleFiles:
    """What some files hold. ``classes`` is set when one of them is a ``classes.yml``: the shipped lists and those."""

    rules: list[Rule] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    classes: Classes | None = None


def read_files(paths: Sequence[Path]) -> RuleFiles:
    """Rules of files and folders; without any, the shipped ones.

    Raises:
        NoRules: a path is not there, cannot be read, or is a folder without rules.
    """
    found = RuleFiles()
    lists: list[tuple[str, bytes]] = []
    shipped = _ids(PACK)
    seen: dict[str, str] = {}
    for path in _files(paths or [PACK]):
        try:
            raw = path.read_bytes()
        except OSError as e:
            raise NoRules(f"{path}: cannot be read: {e.strerror or e}") from e
        try:
            if path.name == CLASSES:
                Classes([(str(path), raw)])
                lists.append((str(path), raw))
                continue
            rule = parse(str(path), raw)
        except RuleError as e:
            found.problems += e.problems
            continue
        other = seen.get(rule.id) or shipped.get(rule.id, str(path))
        seen[rule.id] = str(path)
        if Path(other).resolve() != path.resolve():
            line = read(str(path), raw).line("id")
            found.problems.append(Problem(str(path), line, f"id {rule.id} is taken by {other}: make a new one"))
            continue
        found.rules.append(rule)
    if lists and Path(lists[0][0]).resolve() != SHIPPED.resolve():
        found.classes = Classes([(SHIPPED.name, SHIPPED.read_bytes()), *lists])
    return found


def _files(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(one for one in path.iterdir() if one.suffix in (".yml", ".yaml") and one.is_file())
            if not inside:
                raise NoRules(f"{path}: no rule (*.yml) in this folder; 'modelward rules new NAME' writes one")
            files += inside
        elif path.exists():
            files.append(path)
        else:
            raise NoRules(f"{path}: no such file or folder")
    return files


def _ids(folder: Path) -> dict[str, str]:
    """Rule ids of the shipped pack to their files."""
    return {parse(str(path), path.read_bytes()).id: str(path) for path in folder.glob("*.yml") if path.name != CLASSES}
