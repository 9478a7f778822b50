"""The explanation as a structure: sections of sentences, with the evidence for them. Renderers only lay it out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Mark = Literal["", "this", "good", "warn"]
"""``this``: the detection itself among other rows; ``good`` and ``warn``: what a statement means for how sure all is."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One row that a sentence rests on."""

    what: str
    text: str
    when: str = ""
    """RFC 3339, UTC; empty when it has no time."""
    mark: Mark = ""


@dataclass(frozen=True, slots=True)
class Term:
    """A word of this project, where it is first needed."""

    word: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Section:
    """One question that a reader has, and its answer."""

    key: str
    title: str
    sentences: tuple[str, ...]
    evidence: tuple[Evidence, ...] = ()
    commands: tuple[str, ...] = ()
    """To be typed on a terminal; made of our own words and of values that need no quoting."""
    terms: tuple[Term, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """The whole document."""

    id: str
    title: str
    severity: str
    host: str
    time: str
    headline: str
    silenced_by: str
    sections: tuple[Section, ...]

    def as_json(self) -> dict[str, Any]:
        """For the API."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Explanation:
        """What :meth:`as_json` made.

        Raises:
            KeyError, TypeError: it is something else.
        """
        sections = tuple(
            Section(
                **{
                    **section,
                    "sentences": tuple(section["sentences"]),
                    "evidence": tuple(Evidence(**row) for row in section["evidence"]),
                    "commands": tuple(section["commands"]),
                    "terms": tuple(Term(**term) for term in section["terms"]),
                }
            )
            for section in data["sections"]
        )
        return cls(**{**data, "sections": sections})


@dataclass(slots=True)
class Glossary:
    """Hands out each term once: at the first section that needs it."""

    meanings: dict[str, str]
    told: set[str] = field(default_factory=set)

    def terms(self, words: Iterable[str]) -> tuple[Term, ...]:
        """Those of ``words`` that were not told yet."""
        fresh: list[Term] = []
        for word in words:
            if word not in self.told:
                self.told.add(word)
                fresh.append(Term(word, self.meanings[word]))
        return tuple(fresh)


def listed(items: Sequence[str], last: str = "and") -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {last} {items[-1]}"
