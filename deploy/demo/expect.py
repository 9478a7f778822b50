"""What should be detected of one model server: all of it, and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.demo.console import Detection

PYTHON = Path(sys.executable).resolve().name
SHELL = Path("/bin/sh").resolve().name
"""How chains name the servers' interpreter and the shell of ``os.system``: by the program file."""


@dataclass(frozen=True, slots=True)
class Expected:
    """One rule that must match, and what its detections must know."""

    rule: str
    phases: tuple[str, ...]
    chain: tuple[str, ...]
    """Programs that stand in the process chain in this order, others between them or not."""
    model: str
    """The model that it must name: as the one in service, or as the origin."""
    by_origin: bool = False
    """It must be tied to the load by origin."""

    def fits(self, found: Detection) -> bool:
        """Whether a detection is this one, with everything known that must be."""
        return (
            found.rule == self.rule
            and found.phase in self.phases
            and _in_order(self.chain, found.chain.split(" > "))
            and self.model in ((found.origin_model,) if self.by_origin else (found.model, found.origin_model))
            and (not self.by_origin or (found.origin == "load" and found.origin_instance != 0))
        )

    def words(self) -> str:
        """It in words."""
        tie = "tied by origin to" if self.by_origin else "with"
        return f"{self.rule} in {' or '.join(self.phases)}, {tie} {self.model}, below {' > '.join(self.chain)}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Detections of one server against what was expected of it."""

    met: dict[Expected, Detection]
    """For each expectation the first detection that fits."""
    missing: tuple[Expected, ...]
    other: tuple[Detection, ...]
    """Detections that fit nothing expected."""

    @property
    def exact(self) -> bool:
        return not self.missing and not self.other


def compare(expected: Sequence[Expected], found: Sequence[Detection]) -> Outcome:
    """Match detections with expectations. Several detections of one rule are one expectation met."""
    met: dict[Expected, Detection] = {}
    for one in expected:
        first = next((detection for detection in found if one.fits(detection)), None)
        if first is not None:
            met[one] = first
    return Outcome(
        met=met,
        missing=tuple(one for one in expected if one not in met),
        other=tuple(detection for detection in found if not any(one.fits(detection) for one in expected)),
    )


def _in_order(wanted: Sequence[str], chain: Sequence[str]) -> bool:
    rest = iter(chain)
    return all(any(program == name for program in rest) for name in wanted)
