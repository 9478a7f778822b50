"""The rule files of some folders, read again when they change; a broken edit keeps the last good version."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from modelward_collector.rules.classes import Classes
from modelward_collector.rules.parse import parse
from modelward_collector.rules.rule import Problem, Rule, RuleError

PACK = Path(__file__).parent / "pack"
"""The rules that are shipped."""

CLASSES = "classes.yml"
MAX_RULES = 5000

Stamp = tuple[int, int, int]


T = TypeVar("T")


@dataclass(slots=True)
class _File(Generic[T]):
    stamp: Stamp
    digest: str
    good: T | None
    """The last good version of what it holds."""
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
        self._files: dict[Path, _File[Rule]] = {}
        self._classes: dict[Path, _File[bytes]] = {}
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
        self._files = {path: _read(path, self._files.get(path), parse) for path in rule_paths[:MAX_RULES]}
        self._read_classes(class_paths, problems)
        by_id: dict[str, Rule] = {}
        for file in self._files.values():
            problems += file.problems
            if (rule := file.good) is None:
                continue
            if (other := by_id.get(rule.id)) is not None:
                problems.append(Problem(rule.file, 0, f"rule id {rule.id} is taken by {other.file}"))
            else:
                by_id[rule.id] = rule
        self.rules = list(by_id.values())
        self.problems = problems
        return before != (self.rules, self.problems, [file.digest for file in self._classes.values()])

    def _read_classes(self, paths: list[Path], problems: list[Problem]) -> None:
        files = {path: _read(path, self._classes.get(path), _lists) for path in paths}
        for file in files.values():
            problems += file.problems
        good = {path: file.good for path, file in files.items() if file.good is not None}
        if good != {path: file.good for path, file in self._classes.items() if file.good is not None}:
            self.classes = Classes((str(path), raw) for path, raw in good.items())
        self._classes = files


def _lists(file: str, raw: bytes) -> bytes:
    """The bytes of a ``classes.yml``, once they were seen to be good."""
    Classes([(file, raw)])
    return raw


def _read(path: Path, known: _File[T] | None, reader: Callable[[str, bytes], T]) -> _File[T]:
    """What a file holds now; as it was known when it did not change; its last good version when it is broken."""
    last = known.good if known else None
    try:
        stamp = _stamp(path)
        if known is not None and known.stamp == stamp:
            return known
        raw = path.read_bytes()
    except OSError as e:
        return _File((0, 0, 0), "", last, (Problem(str(path), 0, f"cannot read the file: {e.strerror or e}"),))
    digest = hashlib.sha256(raw).hexdigest()
    if known is not None and known.digest == digest:
        return _File(stamp, digest, known.good, known.problems)
    try:
        return _File(stamp, digest, reader(str(path), raw), ())
    except Exception as e:
        # pySigma and the YAML reader may trip over what nobody thought of: one file must not stop the others.
        problems = e.problems if isinstance(e, RuleError) else [Problem(str(path), 0, f"{type(e).__name__}: {e}")]
        note = "; its last good version stays in force" if last is not None else ""
        return _File(stamp, digest, last, tuple(Problem(p.file, p.line, p.message + note) for p in problems))


def _stamp(path: Path) -> Stamp:
    status = path.stat()
    return (status.st_mtime_ns, status.st_size, status.st_ino)
