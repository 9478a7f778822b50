"""Why a person's query is not run or failed, as a sentence for that person."""

from __future__ import annotations

import re
from typing import Literal

from modelward_proto.fields import DETECTION_FIELDS, STORED

from modelward_collector.store.engine import EngineError

Kind = Literal["refused", "syntax", "limit", "unavailable"]

SETTINGS_REFUSED = "A SETTINGS clause is not allowed: the collector sets the limits."

_LIMIT_CODES = frozenset({128, 158, 159, 160, 161, 162, 167, 168, 191, 241, 307, 394, 396})
_READONLY = 164

_DOTTED = re.compile(r"[`'\"]([A-Za-z_]\w*(?:\.\w+)+)[`'\"]", re.ASCII)
_COLUMNS = frozenset(f.column for f in (*STORED, *DETECTION_FIELDS))


class Refused(Exception):
    """A query that is not run. ``reason`` is a sentence for the person who asked, ``kind`` is
    SelectReply.kind.
    """

    def __init__(self, reason: str, kind: Kind = "refused") -> None:
        super().__init__(reason)
        self.reason = reason
        self.kind: Kind = kind


def explain_failure(error: EngineError) -> Refused:
    """The engine's error as a sentence and a kind for the person whose query it was."""
    text = re.sub(r"\s*\([A-Z_]+\)\s*$", "", " ".join(str(error).split()))
    text = re.sub(r"\b(?:Code: \d+\. )?DB::Exception: ", "", text)[:600]
    if error.code in _LIMIT_CODES or "tree is too big" in text:
        return Refused(f"The query goes over a limit: {text}", "limit")
    if error.code == _READONLY:
        if "setting" in text:
            return Refused(SETTINGS_REFUSED)
        return Refused("Queries only read; this one wants to change something.")
    return Refused((text or "The engine gave no reason.") + _hint(text), "syntax")


def _hint(text: str) -> str:
    """What to write instead of a field's name with dots, as rules have it."""
    for name in _DOTTED.findall(text):
        # An alias of the table may stand before it.
        for dotted in (name, name.partition(".")[2]):
            if (column := dotted.replace(".", "_")) in _COLUMNS:
                return f" In SQL a name has underscores for its dots: {column}."
    return ""
