"""The lists of ``classes.yml``: which program, file and address is of which class, asked one by one."""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelward_proto.fields import DESTINATION_CLASSES, EXECUTABLE_CLASSES, FILE_CLASSES

from modelward_collector.rules.document import Document, read
from modelward_collector.rules.rule import Problem, RuleError, nearest
from modelward_collector.rules.tree import Network

SHIPPED = Path(__file__).parent / "pack" / "classes.yml"

MAX_PATH = 4400
"""Characters of a path that are looked at, from its end: PATH_MAX and some escapes."""

_KEYS = ("version", "multi_call", "executables", "files", "destinations")
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


class ClassLists:
    """The lists of one or more ``classes.yml``; later files add to earlier ones. Raises :class:`RuleError`."""

    def __init__(self, sources: Iterable[tuple[str, bytes]]) -> None:
        self.executables: dict[str, list[str]] = {}
        self.multi_call: list[str] = []
        """Programs that are many in one: which one, their first argument says."""
        self.files: dict[str, FileRule] = {}
        self.destinations: dict[str, list[Network]] = {}
        for name, raw in sources:
            self._add(read(name, raw))
        self._programs = [
            (kind, re.compile("|".join(fnmatch.translate(pattern.lower()) for pattern in patterns)))
            for kind, patterns in self.executables.items()
            if patterns
        ]

    def _add(self, document: Document) -> None:
        problems: list[Problem] = []

        def say(message: str, *path: str | int) -> None:
            problems.append(Problem(document.file, document.line(*path), message))

        data = document.data if isinstance(document.data, dict) else {}
        if not data:
            say("a mapping of executables, files and destinations")
        for key in data:
            if key not in _KEYS:
                say(f"unknown key {key!r}{nearest(key, _KEYS)}", str(key))
        if _texts(multi := data.get("multi_call", [])):
            self.multi_call += [name.lower() for name in multi]
        else:
            say("'multi_call' is a list of names", "multi_call")
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

    def executable(self, path: str) -> str:
        """Class of a program by its path; a memfd's name has the form ``/memfd:NAME``."""
        if not path:
            return "none"
        base = path.rpartition("/")[2].lower().removesuffix(" (deleted)")
        return next((kind for kind, pattern in self._programs if pattern.match(base)), "other")

    def applet(self, command_line: str) -> str:
        """Class of what a program that is many in one does, by its first argument, or its second: ``busybox wget``, ``-sh``."""
        for word in command_line.split(" ", 2)[:2]:
            name = word.strip("'").rpartition("/")[2].lstrip("-")
            if name and name.lower() not in self.multi_call:
                return self.executable(name)
        return "other"

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


def _texts(body: Any) -> bool:
    return isinstance(body, list) and all(isinstance(text, str) and text for text in body)
