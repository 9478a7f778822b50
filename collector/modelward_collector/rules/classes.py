"""Classes of programs, files and destinations, computed for a whole batch from :mod:`.class_lists`.

Each distinct text is classified once in a batch. Programs and addresses are few; paths may be as many as rows, so a search finds
those that may be of a class that takes care (credentials, start-up hooks, ...), and only these are looked at one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import polars as pl
import pyarrow.compute as pc
from modelward_proto.fields import DESTINATION_CLASSES, EXECUTABLE_CLASSES, FILE_CLASSES

from modelward_collector.rules import regex
from modelward_collector.rules.class_lists import SHIPPED, ClassLists
from modelward_collector.rules.compile_polars import fold_column

CACHE_SIZE = 65536
"""Texts remembered for each kind; a full cache starts anew, so hostile variety costs time and no memory."""


class Classes:
    """Classifies batches by the lists of one or more ``classes.yml``. Raises ``RuleError`` for a mistake in one."""

    def __init__(self, sources: Iterable[tuple[str, bytes]]) -> None:
        self.lists = ClassLists(sources)
        self._seen: dict[str, dict[str, str]] = {"executable": {}, "applet": {}, "file": {}, "destination": {}}
        pieces = sorted({piece for rule in self.lists.files.values() for piece in rule.triggers})
        self._careful = "(?-u:" + "|".join(map(regex.escape, pieces)) + ")" if pieces else r"\z."

    @classmethod
    def shipped(cls) -> Classes:
        """The lists of the shipped pack alone."""
        return cls([(SHIPPED.name, SHIPPED.read_bytes())])

    def classify(self, events: pl.DataFrame) -> pl.DataFrame:
        """The batch with the three class columns added, as closed columns."""
        return events.with_columns(
            self._program_column(events),
            self._column(events, "destination", "destination_address", "destination_class", DESTINATION_CLASSES),
            self._file_column(events),
        )

    def _program_column(self, events: pl.DataFrame) -> pl.Series:
        kinds = self._column(events, "executable", "process_executable_path", "process_executable_class", EXECUTABLE_CLASSES)
        if not {"process_executable_path", "process_command_line"} <= set(events.columns) or not self.lists.multi_call:
            return kinds
        names = "|".join(regex.escape(name) for name in self.lists.multi_call)
        paths = events["process_executable_path"].cast(pl.String).fill_null("")
        many = paths.str.contains(f"/(?i-u:{names})$").arg_true()
        if not len(many):
            return kinds
        lines = events["process_command_line"].cast(pl.String).fill_null("").gather(many)
        return kinds.scatter(many, _mapped(lines, self._known("applet", lines.unique().to_list()), pl.Enum(EXECUTABLE_CLASSES)))

    def _column(self, events: pl.DataFrame, what: str, source: str, target: str, values: tuple[str, ...]) -> pl.Series:
        dtype = pl.Enum(values)
        if source not in events.columns:
            return pl.repeat(values[0], events.height, dtype=dtype, eager=True).alias(target)
        texts, codes = _distinct(events[source])
        return _mapped(texts, self._known(what, texts.to_list()), dtype).gather(codes).alias(target)

    def _known(self, what: str, texts: list[str]) -> dict[str, str]:
        seen = self._seen[what]
        if len(seen) + len(texts) > CACHE_SIZE:
            seen.clear()
        function: Callable[[str], str] = getattr(self.lists, what)
        out: dict[str, str] = {}
        for text in texts:
            if (kind := seen.get(text)) is None:
                kind = function(text)
                if len(seen) < CACHE_SIZE:
                    seen[text] = kind
            out[text] = kind
        return out

    def _file_column(self, events: pl.DataFrame) -> pl.Series:
        dtype = pl.Enum(FILE_CLASSES)
        if "file_path" not in events.columns:
            return pl.repeat("none", events.height, dtype=dtype, eager=True).alias("file_class")
        path, codes = _distinct(events["file_path"])
        lower = fold_column(path).alias("lower")
        kind: Any = pl.when(pl.col("lower") == "").then(pl.lit("none"))
        for rule in self.lists.files.values():
            for start in rule.starts:
                kind = kind.when(pl.col("lower").str.starts_with(start)).then(pl.lit(rule.name))
            for end in rule.quick_ends:
                kind = kind.when(pl.col("lower").str.ends_with(end)).then(pl.lit(rule.name))
        out: pl.Series = lower.to_frame().select(kind.otherwise(pl.lit("other")).cast(dtype)).to_series()
        careful = lower.str.contains(self._careful)
        if careful.any():
            texts = path.filter(careful)
            exact = _mapped(texts, self._known("file", texts.to_list()), dtype)
            out = out.scatter(careful.arg_true(), exact)
        return self._by_asked(events, out.gather(codes)).alias("file_class")

    def _by_asked(self, events: pl.DataFrame, kinds: pl.Series) -> pl.Series:
        """A hub's cache keeps a model under its hash and links to it by name: the name asked for says that it is an artifact.

        It can make no other class: what was opened counts, not what it was called.
        """
        if "file_path_asked" not in events.columns:
            return kinds
        asked = events["file_path_asked"].cast(pl.String).fill_null("")
        named = ((kinds == "other") & (asked != "")).arg_true()
        if not len(named):
            return kinds
        texts = asked.gather(named)
        known = self._known("file", texts.unique().to_list())
        artifacts = texts.replace_strict(list(known), [kind == "artifact" for kind in known.values()], return_dtype=pl.Boolean)
        return kinds.scatter(named.filter(artifacts), "artifact")


def _distinct(texts: pl.Series) -> tuple[pl.Series, pl.Series]:
    """The distinct texts of a column, and for each row which of them it has."""
    array = pc.dictionary_encode(texts.cast(pl.String).fill_null("").to_arrow())
    return pl.Series(texts.name, array.dictionary, dtype=pl.String), pl.Series(array.indices.to_numpy())


def _mapped(texts: pl.Series, kinds: dict[str, str], dtype: pl.Enum) -> pl.Series:
    if not kinds:
        return pl.Series(texts.name, [], dtype=dtype)
    return texts.replace_strict(list(kinds), pl.Series(list(kinds.values()), dtype=dtype), return_dtype=dtype)
