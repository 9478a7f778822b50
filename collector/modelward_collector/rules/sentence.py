"""A rule's sentence, filled in for many rows at once.

Values are hostile. They come escaped (:mod:`modelward_proto.text`); here they are bounded, and escaped
again should a row that did not come over the wire hold anything that is not inert.
"""

from __future__ import annotations

import polars as pl
from modelward_proto.fields import BY_NAME
from modelward_proto.text import escape, is_inert

from modelward_collector.rules.validate import PLACEHOLDER

MAX_VALUE = 160
"""Characters of one value; of a longer one the start and the end are kept, for paths end in what matters."""
_HEAD, _TAIL = 120, 36

ARTIFACT = "~artifact"
"""Column that fills ``{artifact}``."""

UNKNOWN = {"workload.runtime": "an unknown server", "destination.address": "an open socket"}
"""What stands for an empty value; ``unknown`` for the others."""


def bounded(text: pl.Expr) -> pl.Expr:
    """A text of at most :data:`MAX_VALUE` characters."""
    short = pl.concat_str([text.str.head(_HEAD), pl.lit(" … "), text.str.tail(_TAIL)])
    return pl.when(text.str.len_chars() > MAX_VALUE).then(short).otherwise(text)


def sentences(template: str, rows: pl.DataFrame) -> pl.Series:
    """One sentence a row; ``rows`` holds the columns that the template names, and :data:`ARTIFACT`."""
    parts: list[pl.Expr] = []
    for index, piece in enumerate(PLACEHOLDER.split(template)):
        if index % 2 == 0:
            parts.append(pl.lit(piece))
            continue
        column = pl.col(ARTIFACT if piece == "artifact" else BY_NAME[piece].column).cast(pl.String).fill_null("")
        parts.append(pl.when(column == "").then(pl.lit(UNKNOWN.get(piece, "unknown"))).otherwise(bounded(column)))
    filled = rows.select(pl.concat_str([pl.repeat("", pl.len()), *parts]).alias("sentence")).to_series()
    return inert(filled)


def inert(texts: pl.Series) -> pl.Series:
    """The same texts, with any that could act on a screen escaped."""
    suspects = texts.str.contains(r"[\p{C}\p{Zl}\p{Zp}\\]")
    if not suspects.any():
        return texts
    return pl.Series(
        texts.name,
        [
            text if not suspect or is_inert(text) else escape(text.encode("utf-8", "surrogatepass"))
            for text, suspect in zip(texts.to_list(), suspects.to_list(), strict=True)
        ],
        dtype=pl.String,
    )
