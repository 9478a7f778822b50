"""Classes of programs, files and destinations, computed for a whole batch from the lists in
``pack/classes.yml``.

Each distinct text is classified once in a batch. Programs and addresses are few; paths may be as many as
rows, so one multi-pattern search finds the paths that may be of a class that takes care (credentials,
start-up hooks, ...), and only those are looked at one by one.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from modelward_proto.fields import DESTINATION_CLASSES, EXECUTABLE_CLASSES, FILE_CLASSES

from modelward_collector.rules import regex
from modelward_collector.rules.compile_polars import fold_column
from modelward_collector.rules.document import Document, read
from modelward_collector.rules.rule import Problem, RuleError, nearest
from modelward_collector.rules.tree import Network

CACHE_SIZE = 65536
"""Texts remembered for each kind; a full cache starts anew, so hostile variety costs time and no memory."""

MAX_PATH = 4400
"""Characters of a path that are looked at: PATH_MAX and some escapes; classes go by the end, so the end is
kept.
"""

SHIPPED = Path(__file__).parent / "pack" / "classes.yml"

_FILE_KEYS = ("names", "suffixes", "parts", "starts", "endings_in")


@dataclass(slots=True)
class FileRule:
    """How the paths of one class look. All lower case: paths compare folded."""

    name: str
    names: set[str] = field(default_factory=set)
    suffixes: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    starts: list[str] = field(default_factory=list)
    endings_in: dict[str, list[str]] = field(default_factory=dict)

    def holds(self, path: str) -> bool:
        """Whether a folded path is of this class."""
        return (
            ("/" in path and path.rpartition("/")[2] in self.names)
            or path.endswith(tuple(self.suffixes))
            or path.startswith(tuple(self.starts))
            or any(part in path for part in self.parts)
            or any(path.endswith(end) and any(p in path for p in parts) for end, parts in self.endings_in.items())
        )

    @property
    def quick_ends(self) -> list[str]:
        """Ends that are file name extensions: a whole column is asked for them at small cost."""
        return [suffix for suffix in self.suffixes if "/" not in suffix]

    @property
    def triggers(self) -> list[str]:
        """Pieces of which every path of this class holds one, if neither its start nor a quick end puts it
        there.
        """
        slow_ends = [suffix for suffix in self.suffixes if "/" in suffix]
        return ["/" + name for name in self.names] + slow_ends + self.parts + list(self.endings_in)


class Classes:
    """Lists of one or more ``classes.yml``; later files add to earlier ones. Raises :class:`RuleError`."""

    def __init__(self, sources: Iterable[tuple[str, bytes]]) -> None:
        self.executables: dict[str, list[str]] = {}
        self.files: dict[str, FileRule] = {}
        self.destinations: dict[str, list[Network]] = {}
        for name, raw in sources:
            self._add(read(name, raw))
        self._programs = [
            (kind, re.compile("|".join(fnmatch.translate(pattern.lower()) for pattern in patterns)))
            for kind, patterns in self.executables.items()
            if patterns
        ]
        self._seen: dict[str, dict[str, str]] = {"executable": {}, "file": {}, "destination": {}}
        pieces = sorted({piece for rule in self.files.values() for piece in rule.triggers})
        self._careful = "(?-u:" + "|".join(map(regex.escape, pieces)) + ")" if pieces else r"\z."

    @classmethod
    def shipped(cls) -> Classes:
        """The lists of the shipped pack alone."""
        return cls([(SHIPPED.name, SHIPPED.read_bytes())])

    # -- reading ---------------------------------------------------------------------------------------------

    def _add(self, document: Document) -> None:
        problems: list[Problem] = []

        def say(message: str, *path: str | int) -> None:
            problems.append(Problem(document.file, document.line(*path), message))

        data = document.data if isinstance(document.data, dict) else {}
        if not data:
            say("a mapping of executables, files and destinations")
        known = ("version", "executables", "files", "destinations")
        for key in data:
            if key not in known:
                say(f"unknown key {key!r}{nearest(key, known)}", str(key))
        readers: dict[str, tuple[Sequence[str], Callable[[str, Any, Callable[..., None]], None]]] = {
            "executables": (EXECUTABLE_CLASSES, self._executables),
            "files": (FILE_CLASSES, self._files),
            "destinations": (DESTINATION_CLASSES, self._destinations),
        }
        for key, (values, reader) in readers.items():
            part = data.get(key, {})
            if not isinstance(part, Mapping):
                say(f"{key!r} is a mapping of classes", key)
                continue
            for kind, body in part.items():
                if kind not in values:
                    say(f"{kind!r} is no class of {key}{nearest(kind, values)}", key, str(kind))
                else:
                    reader(kind, body, say)
        if problems:
            raise RuleError(problems)

    def _executables(self, kind: str, body: Any, say: Callable[..., None]) -> None:
        if _texts(body):
            self.executables.setdefault(kind, []).extend(body)
        else:
            say(f"{kind!r} is a list of names", "executables", kind)

    def _files(self, kind: str, body: Any, say: Callable[..., None]) -> None:
        if not isinstance(body, Mapping):
            say(f"{kind!r} is a mapping of {', '.join(_FILE_KEYS)}", "files", kind)
            return
        rule = self.files.setdefault(kind, FileRule(kind))
        for key, value in body.items():
            path = ("files", kind, str(key))
            if key not in _FILE_KEYS:
                say(f"unknown key {key!r}{nearest(key, _FILE_KEYS)}", *path)
            elif key == "endings_in":
                if not isinstance(value, Mapping) or not all(isinstance(e, str) and _texts(parts) for e, parts in value.items()):
                    say("'endings_in' maps an ending to a list of path pieces", *path)
                else:
                    rule.endings_in.update({end.lower(): [p.lower() for p in parts] for end, parts in value.items()})
            elif not _texts(value):
                say(f"{key!r} is a list of texts", *path)
            elif key == "names":
                rule.names.update(text.lower() for text in value)
            else:
                getattr(rule, str(key)).extend(text.lower() for text in value)

    def _destinations(self, kind: str, body: Any, say: Callable[..., None]) -> None:
        if not _texts(body):
            say(f"{kind!r} is a list of networks", "destinations", kind)
            return
        for index, text in enumerate(body):
            try:
                self.destinations.setdefault(kind, []).append(ipaddress.ip_network(text))
            except ValueError as e:
                say(str(e), "destinations", kind, index)

    # -- one by one ------------------------------------------------------------------------------------------

    def executable(self, path: str) -> str:
        """Class of a program by its path; a memfd's name has the form ``/memfd:NAME``."""
        if not path:
            return "none"
        base = path.rpartition("/")[2].lower().removesuffix(" (deleted)")
        return next((kind for kind, pattern in self._programs if pattern.match(base)), "other")

    def file(self, path: str) -> str:
        """Class of a file by its path."""
        if not path:
            return "none"
        lower = path[-MAX_PATH:].lower()
        return next((kind for kind, rule in self.files.items() if rule.holds(lower)), "other")

    def destination(self, address: str) -> str:
        """Class of an address; an IPv4-mapped IPv6 address is its IPv4 address."""
        if not address:
            return "none"
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return "unix"
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        return next(
            (kind for kind, networks in self.destinations.items() if any(ip in net for net in networks)),
            "public",
        )

    # -- a batch ---------------------------------------------------------------------------------------------

    def classify(self, events: pl.DataFrame) -> pl.DataFrame:
        """The batch with the three class columns added, as closed columns."""
        return events.with_columns(
            self._column(
                events,
                "executable",
                "process_executable_path",
                "process_executable_class",
                EXECUTABLE_CLASSES,
            ),
            self._column(events, "destination", "destination_address", "destination_class", DESTINATION_CLASSES),
            self._file_column(events),
        )

    def _column(self, events: pl.DataFrame, what: str, source: str, target: str, values: tuple[str, ...]) -> pl.Series:
        dtype = pl.Enum(values)
        if source not in events.columns:
            return pl.repeat(values[0], events.height, dtype=dtype, eager=True).alias(target)
        texts = events[source].cast(pl.String).fill_null("")
        return _mapped(texts, self._known(what, texts.unique().to_list()), dtype).alias(target)

    def _known(self, what: str, texts: list[str]) -> dict[str, str]:
        seen = self._seen[what]
        if len(seen) + len(texts) > CACHE_SIZE:
            seen.clear()
        function: Callable[[str], str] = getattr(self, what)
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
        path = events["file_path"].cast(pl.String).fill_null("").alias("path")
        lower = fold_column(path).alias("lower")
        kind: Any = pl.when(pl.col("lower") == "").then(pl.lit("none"))
        for rule in self.files.values():
            for start in rule.starts:
                kind = kind.when(pl.col("lower").str.starts_with(start)).then(pl.lit(rule.name))
            for end in rule.quick_ends:
                kind = kind.when(pl.col("lower").str.ends_with(end)).then(pl.lit(rule.name))
        out: pl.Series = lower.to_frame().select(kind.otherwise(pl.lit("other")).cast(dtype)).to_series()
        careful = lower.str.contains(self._careful)
        if careful.any():
            texts = path.filter(careful)
            exact = _mapped(texts, self._known("file", texts.unique().to_list()), dtype)
            out = out.scatter(careful.arg_true(), exact)
        return self._by_asked(events, out).alias("file_class")

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


def _texts(body: Any) -> bool:
    return isinstance(body, list) and all(isinstance(text, str) and text for text in body)


def _mapped(texts: pl.Series, kinds: dict[str, str], dtype: pl.Enum) -> pl.Series:
    if not kinds:
        return pl.Series(texts.name, [], dtype=dtype)
    return texts.replace_strict(list(kinds), pl.Series(list(kinds.values()), dtype=dtype), return_dtype=dtype)
