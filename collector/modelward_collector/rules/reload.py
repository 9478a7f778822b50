"""The rule files of some folders, read again when they change; a broken edit keeps the last good version."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modelward_collector.rules.classes import Classes
from modelward_collector.rules.parse import parse
from modelward_collector.rules.rule import Problem, Rule, RuleError

PACK = Path(__file__).parent / "pack"
"""The rules that are shipped."""

CLASSES = "classes.yml"
MAX_RULES = 5000

Stamp = tuple[int, int, int]


@dataclass(slots=True)
class _File:
    stamp: Stamp
    digest: str
    rule: Rule | None
    """The last good version."""
    problems: tuple[Problem, ...]


class RuleFolder:
    """Rules and classes of the shipped pack and of extra folders, by file. Never raises on what a file
    holds.
    """

    def __init__(self, directories: Sequence[Path]) -> None:
        self.directories = (PACK, *(Path(directory) for directory in directories))
        self.rules: list[Rule] = []
        self.problems: list[Problem] = []
        self.classes = Classes.shipped()
        self._files: dict[Path, _File] = {}
        self._classes: dict[Path, _File] = {}
        self.refresh()

    def refresh(self) -> bool:
        """Look at the folders; True when rules, classes or problems changed. Costs one stat for each file
        that did not.
        """
        before = (list(self.rules), list(self.problems), [file.digest for file in self._classes.values()])
        problems: list[Problem] = []
        rule_paths: list[Path] = []
        class_paths: list[Path] = []
        for directory in self.directories:
            try:
                found = sorted(path for path in directory.iterdir() if path.suffix in (".yml", ".yaml") and path.is_file())
            except OSError as e:
                problems.append(Problem(str(directory), 0, f"cannot read the folder: {e.strerror or e}"))
                continue
            rule_paths += [path for path in found if path.name != CLASSES]
            class_paths += [path for path in found if path.name == CLASSES]
        if len(rule_paths) > MAX_RULES:
            problems.append(Problem(str(rule_paths[MAX_RULES].parent), 0, f"more than {MAX_RULES} rules; the rest is left out"))
        self._files = {path: self._rule(path) for path in rule_paths[:MAX_RULES]}
        self._read_classes(class_paths, problems)
        by_id: dict[str, Rule] = {}
        for file in self._files.values():
            problems += file.problems
            if file.rule is None:
                continue
            if (other := by_id.get(file.rule.id)) is not None:
                problems.append(Problem(file.rule.file, 0, f"rule id {file.rule.id} is taken by {other.file}"))
            else:
                by_id[file.rule.id] = file.rule
        self.rules = list(by_id.values())
        self.problems = problems
        return before != (self.rules, self.problems, [file.digest for file in self._classes.values()])

    def _rule(self, path: Path) -> _File:
        known = self._files.get(path)
        try:
            stamp = _stamp(path)
            if known is not None and known.stamp == stamp:
                return known
            raw = path.read_bytes()
        except OSError as e:
            gone = Problem(str(path), 0, f"cannot read the file: {e.strerror or e}")
            return _File((0, 0, 0), "", known.rule if known else None, (gone,))
        digest = hashlib.sha256(raw).hexdigest()
        if known is not None and known.digest == digest:
            known.stamp = stamp
            return known
        try:
            return _File(stamp, digest, parse(str(path), raw), ())
        except RuleError as e:
            last = known.rule if known else None
            note = "; its last good version stays in force" if last else ""
            return _File(stamp, digest, last, tuple(Problem(p.file, p.line, p.message + note) for p in e.problems))

    def _read_classes(self, paths: list[Path], problems: list[Problem]) -> None:
        files: dict[Path, _File] = {}
        sources: list[tuple[str, bytes]] = []
        for path in paths:
            try:
                raw = path.read_bytes()
                files[path] = _File(_stamp(path), hashlib.sha256(raw).hexdigest(), None, ())
                Classes([(str(path), raw)])
                sources.append((str(path), raw))
            except OSError as e:
                problems.append(Problem(str(path), 0, f"cannot read the file: {e.strerror or e}"))
            except RuleError as e:
                problems += e.problems
        if [file.digest for file in files.values()] != [file.digest for file in self._classes.values()]:
            self.classes = Classes(sources)
        self._classes = files


def _stamp(path: Path) -> Stamp:
    status = path.stat()
    return (status.st_mtime_ns, status.st_size, status.st_ino)
