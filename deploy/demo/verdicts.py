"""Compares each chapter's detections with what it expected, shows them, and keeps the score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.demo.console import Detection
from deploy.demo.expect import Expected, compare
from deploy.demo.report import Report
from deploy.demo.screen import Screen
from deploy.demo.watch import Watch

_SETTLING = "waiting until everything so far is stored and judged"

_SHOWN = 8
"""Unexpected detections told one by one."""

_GOAL_S = 1.0
"""Kernel event to alert, from the project's targets."""


@dataclass(frozen=True, slots=True)
class _Chapter:
    about: str
    roots: tuple[int, ...]
    expected: tuple[Expected, ...]


class Verdicts:
    """The score of the demo. :attr:`good` until something was missing or something else was detected."""

    def __init__(self, screen: Screen, watch: Watch, report: Report) -> None:
        self._screen, self._watch, self._report = screen, watch, report
        self._chapters: list[_Chapter] = []
        self._told: set[str] = set()
        self._delays: list[float] = []
        self.good = True

    def settle_by(self, mark: Callable[[int], Path] | None) -> None:
        """What to do and wait for when all events so far are to be stored; None: read a file with a model's name."""
        self._watch.mark = mark or self._watch.read_a_model_file

    def nothing(self, about: str, roots: Sequence[int]) -> None:
        """Nothing may be detected of the workloads that began with these processes."""
        with self._screen.waiting(_SETTLING):
            self._watch.settle()
        chapter = _Chapter(about, tuple(roots), ())
        found = self._of(chapter)
        if not found:
            self._screen.verdict("detected", True, "Nothing.")
        self._record(chapter, met=0, other=found)

    def exactly(self, about: str, root: int, expected: Sequence[Expected]) -> None:
        """These must be detected of the workload that began with process ``root``, and nothing else."""
        with self._screen.waiting(_SETTLING):
            outcome = self._watch.wait(root, expected)
        for detection in outcome.met.values():
            self._show(detection, about)
        for one in outcome.missing:
            self._screen.verdict("missing", False, one.words())
        self._record(_Chapter(about, (root,), tuple(expected)), met=len(outcome.met), other=outcome.other)

    def nothing_else(self) -> None:
        """At the very end: nothing came to a workload after its chapter, nothing to any other."""
        with self._screen.waiting(_SETTLING):
            self._watch.settle()
        late: list[Detection] = []
        known: set[int] = set()
        for chapter in self._chapters:
            known.update(chapter.roots)
            late += compare(chapter.expected, self._of(chapter)).other
        late += [detection for detection in self._watch.all() if detection.root_pid not in known]
        late = [detection for detection in late if detection.id not in self._told]
        self._tell_others(late)
        self.good = self.good and not late
        self._report.add("detections outside the story", len(late), "count", "0", not late)

    def score(self) -> str:
        """What came of what was expected, and how soon."""
        wanted = sum(len(chapter.expected) for chapter in self._chapters)
        soon = f", {min(self._delays):.2f} to {max(self._delays):.2f} s after the kernel hook" if self._delays else ""
        return f"{len(self._delays)} of the {wanted} expected kinds of detections{soon}"

    def _of(self, chapter: _Chapter) -> list[Detection]:
        return [detection for pid in chapter.roots for detection in self._watch.of(pid)]

    def _tell_others(self, others: Sequence[Detection]) -> None:
        self._told.update(detection.id for detection in others)
        for detection in others[:_SHOWN]:
            where = f"{detection.chain}, process {detection.pid} of workload {detection.root_pid}"
            self._screen.verdict("unexpected", False, f"{detection.title}: {detection.sentence} [{where}]")
        if len(others) > _SHOWN:
            self._screen.verdict("unexpected", False, f"and {len(others) - _SHOWN} more")

    def _record(self, chapter: _Chapter, met: int, other: Sequence[Detection]) -> None:
        self._tell_others(other)
        wanted = len(chapter.expected)
        self._chapters.append(chapter)
        self._report.add(f"{chapter.about}: expected detections that came", met, "count", str(wanted), met == wanted)
        self._report.add(f"{chapter.about}: other detections", len(other), "count", "0", not other)
        self.good = self.good and met == wanted and not other

    def _show(self, detection: Detection, about: str) -> None:
        delay = self._watch.delay_s(detection)
        self._delays.append(delay)
        phase = detection.phase
        if detection.origin == "load":
            phase += f", by what the load of {detection.origin_model} started"
        model = detection.model or detection.origin_model
        facts = [
            ("phase", phase),
            ("model", f"{model}, sha256 {detection.digest[:16]}..." if detection.digest else model),
            ("chain", detection.chain),
            _what(detection),
            ("time", f"{delay:.2f} s from the kernel hook to stored and readable"),
        ]
        self._screen.found(detection.title, detection.severity, facts)
        measure = f"{about}: {detection.rule}, kernel hook to stored detection"
        self._report.add(measure, round(delay, 3), "s", f"< {_GOAL_S:.0f}", delay < _GOAL_S)


def _what(detection: Detection) -> tuple[str, str]:
    if detection.event == "file_open":
        return "file", detection.file
    if detection.event == "connect":
        return "address", f"{detection.address} port {detection.port}"
    return "command", detection.command
