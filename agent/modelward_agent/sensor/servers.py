"""The shipped lists (servers, artifacts, credentials), and how a command line is held against them.

The kernel matches at exec with maps filled from here; :func:`is_server` says the same of a process that was
there before the agent.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from modelward_agent.sensor.errors import SensorError

AS_PROGRAM, AS_SCRIPT, AS_MODULE, AS_EXCLUDED, AS_WORKER = 1, 2, 4, 8, 16
"""``MW_AS_*`` of ``agent/bpf/state.h``."""

EXT_MODEL_BIN, EXT_NOT_SITE = 1, 2
"""``MW_EXT_*`` of ``agent/bpf/state.h``."""

NAME_SIZE, EXTENSION_SIZE = 64, 16
_ARGUMENTS = 12
_PYTHON = re.compile(rb"python|pypy")


@dataclass(frozen=True)
class Lists:
    """Names as the kernel's maps take them."""

    programs: dict[bytes, int]
    """base name or module to AS_*"""
    extensions: dict[bytes, int]
    credentials: frozenset[bytes]


@cache
def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parent / name).read_text())


class WatchError(SensorError):
    """A name of ``--watch`` cannot be one."""


def lists(watch: Sequence[str] = ()) -> Lists:
    """The shipped lists, and the names in ``watch`` as programs, scripts and modules.

    Raises:
        WatchError: a name to watch is empty or too long.
    """
    servers, artifacts = _read("servers.toml"), _read("artifacts.toml")
    programs: dict[bytes, int] = {}
    for key, how in (("programs", AS_PROGRAM), ("scripts", AS_SCRIPT), ("modules", AS_MODULE), ("excluded", AS_EXCLUDED),
                     ("workers", AS_WORKER)):
        for name in servers[key]:
            programs[name.encode()] = programs.get(name.encode(), 0) | how
    for name in watch:
        word = name.encode()
        if not word or len(word) >= NAME_SIZE or b"/" in word:
            raise WatchError(f"--watch {name!r}: give the base name of a program or script, or a module, "
                              f"of 1 to {NAME_SIZE - 1} bytes")
        programs[word] = programs.get(word, 0) & ~AS_EXCLUDED | AS_PROGRAM | AS_SCRIPT | AS_MODULE
    extensions = dict.fromkeys((e.encode() for e in artifacts["extensions"]), 0)
    extensions |= dict.fromkeys((e.encode() for e in artifacts["outside_site_packages"]), EXT_NOT_SITE)
    extensions |= dict.fromkeys((e.encode() for e in artifacts["model_names"]), EXT_MODEL_BIN)
    return Lists(programs, extensions, frozenset(n.encode() for n in _read("credentials.toml")["names"]))


def may_be_server(executable: bytes, names: dict[bytes, int]) -> bool:
    """Whether :func:`is_server` may be true of such a program, with whatever arguments."""
    return bool(names.get(_base(executable), 0) & AS_PROGRAM or _PYTHON.match(_base(executable)))


def _base(path: bytes) -> bytes:
    return path.removesuffix(b" (deleted)").rsplit(b"/", 1)[-1]


def is_server(executable: bytes, arguments: Sequence[bytes], names: dict[bytes, int]) -> bool:
    """Whether a program (path) with its arguments is a model server: the same decision as ``match_server`` in
    ``agent/bpf/tracking.h``."""
    if names.get(_base(executable), 0) & AS_PROGRAM:
        return True
    if not _PYTHON.match(_base(executable)):
        return False
    value = module = False
    for argument in arguments[1:_ARGUMENTS]:
        if module:
            return bool(names.get(argument, 0) & AS_MODULE)
        if value:
            value = False
        elif argument.startswith(b"--"):
            continue
        elif argument.startswith(b"-") and len(argument) >= 2:
            if argument.endswith(b"c"):
                return False
            module = argument.endswith(b"m")
            value = argument.endswith((b"W", b"X"))
        else:
            return bool(names.get(argument.rsplit(b"/", 1)[-1], 0) & AS_SCRIPT)
    return False
