"""Which server a workload is: from program and arguments, from libraries that are mapped, from package metadata.

A guess, for people and rules to read; nothing is allowed because of it. Ranks: an inference server is 3, a web server 2, an
interpreter 1, nothing 0; the most specific guess counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelward_agent.enrich.packages import Used
from modelward_agent.enrich.runtime_names import (
    DISTRIBUTIONS,
    FRAMEWORKS,
    MAPPED_SERVERS,
    MODULES,
    OWN_SERVERS,
    PROGRAMS,
    TITLES,
)

SPECIFIC = 3
PLAIN = 2
INTERPRETER = 1

_SHOWN = 3
_INTERPRETER = re.compile(r"python(?:\d+(?:\.\d+)?)?t?\Z|pypy\d*(?:\.\d+)?\Z")
_TORCHSERVE = "org.pytorch.serve"


@dataclass(frozen=True, slots=True)
class Runtime:
    """What a process runs: a server, and the frameworks in it with their versions."""

    name: str = ""
    rank: int = 0
    version: str = ""
    frameworks: tuple[tuple[str, str], ...] = ()


def guess(path: str, arguments: Sequence[bytes]) -> tuple[str, int]:
    """Name and rank of what a process runs, from its program and arguments alone."""
    words = [argument.decode("utf-8", "replace") for argument in arguments[:64]]
    title = words[0].lower() if words else ""
    for start, name in TITLES:
        if title.startswith(start):
            return name, SPECIFIC
    program = path.rsplit("/", 1)[-1]
    best = PROGRAMS.get(program, ("", 0))
    if words and best[1] < PLAIN:
        best = max(best, PROGRAMS.get(words[0].rsplit("/", 1)[-1], ("", 0)), key=lambda g: g[1])
    if _INTERPRETER.match(program):
        best = max(("python", INTERPRETER), _of_python(words[1:]), best, key=lambda g: g[1])
    elif program == "java" and any(_TORCHSERVE in word for word in words):
        best = ("torchserve", SPECIFIC)
    return best


def is_spawned(arguments: Sequence[bytes]) -> bool:
    """Whether Python's multiprocessing started it: it runs what its parent runs, under another command line."""
    return any(word.startswith((b"from multiprocessing.spawn ", b"from multiprocessing.forkserver ")) for word in arguments[1:8])


def recognise(known: tuple[str, int], path: str, used: Used) -> Runtime:
    """The same with what the process was found to use.

    Args:
        known: what :func:`guess` said.
        path: its program, for the interpreter's version.
    """
    name, rank = known
    for sign, server in MAPPED_SERVERS.items():
        if rank < SPECIFIC and (sign in used.packages or sign in used.libraries):
            name, rank = server, SPECIFIC
    if rank < PLAIN:
        imported = [MODULES[module] for module in sorted(used.imports) if module in MODULES]
        name, rank = max([(name, rank), *imported], key=lambda found: found[1])
    frameworks = tuple(found for found in _frameworks(used) if found[0] != name)
    if rank <= INTERPRETER and frameworks and frameworks[0][0] in OWN_SERVERS:
        (name, _), *rest = frameworks
        rank, frameworks = SPECIFIC, tuple(rest)
    return Runtime(name, rank, _version(name, rank, path, used.versions) or used.images.get(name, ""), frameworks)


def shown(runtime: Runtime) -> tuple[str, str]:
    """Name and version as people read them: a plain server with its frameworks, as in ``uvicorn + torch``, the versions in the
    same order; an inference server by itself."""
    if runtime.rank >= SPECIFIC:
        return runtime.name, runtime.version
    parts = [(runtime.name, runtime.version)] if runtime.name else []
    parts += runtime.frameworks[:_SHOWN]
    versions = " + ".join(version or "?" for _, version in parts)
    return " + ".join(name for name, _ in parts), versions if any(version for _, version in parts) else ""


def join(one: Runtime, other: Runtime) -> Runtime:
    """Two processes of one workload: the more specific server, all frameworks."""
    told = other.name == one.name and other.version and not one.version
    best = other if other.rank > one.rank or told else one
    versions = dict(one.frameworks) | {name: version for name, version in other.frameworks if version}
    versions |= {name: versions.get(name, version) for name, version in other.frameworks}
    order = [label for label, _, _ in FRAMEWORKS if label in versions and label != best.name]
    return Runtime(best.name, best.rank, best.version, tuple((label, versions[label]) for label in order))


def _frameworks(used: Used) -> Sequence[tuple[str, str]]:
    found = []
    for label, signs, distributions in FRAMEWORKS:
        seen = [sign for sign in signs if sign in used.packages or sign in used.libraries]
        if seen:
            version = _first(distributions, used.versions) or next(filter(None, map(used.libraries.get, seen)), "")
            found.append((label, version))
    return found


def _version(name: str, rank: int, path: str, versions: Mapping[str, str]) -> str:
    if rank == INTERPRETER:
        return path.rsplit("/", 1)[-1].removeprefix(name) if name == "python" else ""
    return _first(DISTRIBUTIONS.get(name, (name.replace("-", "_"),)), versions)


def _first(names: Sequence[str], versions: Mapping[str, str]) -> str:
    return next((versions[name] for name in names if name in versions), "")


def _of_python(words: Sequence[str]) -> tuple[str, int]:
    """What ``python ARGS`` runs: the module after ``-m``, or the script."""
    position = 0
    while position < len(words):
        word = words[position]
        if word == "-m" and position + 1 < len(words):
            return MODULES.get(words[position + 1].split(".")[0], ("python", INTERPRETER))
        if word == "-c":
            return "python", INTERPRETER
        if word in ("-W", "-X"):
            position += 1
        elif not word.startswith("-"):
            script = word.rsplit("/", 1)[-1]
            if script == "serve" and len(words) > position + 1 and words[position + 1] == "run":
                return "ray serve", SPECIFIC
            by_name = PROGRAMS.get(script) or MODULES.get(script.removesuffix(".py"))
            return by_name or ("python", INTERPRETER)
        position += 1
    return "python", INTERPRETER
