"""Which Python packages and libraries a process uses, from the files it maps and the names of package metadata folders.

Everything here is said by the workload: it is for people to read, and nothing is opened but folders below the process's own
root and, bounded, the script it runs. Nothing is executed. What is opened may hang as long as the workload likes: this is for a
process that can be killed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from modelward_agent.enrich.runtime_names import VERSION_FILES
from modelward_agent.identity.opening import Place, names_in

MAPS_BYTES = 4 << 20
_FILES = 8192
_FOLDERS = 8
_ENTRIES = 8192
_SCRIPT_BYTES = 65536
_VERSION_BYTES = 64
_SITE = re.compile(rb"(/(?:[^/]+/)*?(?:site|dist)-packages)/([^/]+)")
_LIBRARY = re.compile(
    rb"([A-Za-z0-9_+.-]{1,64}?)(?:-[0-9a-f]{8})?(?:\.cpython-[^.]+|\.abi3)?\.so(?:\.([0-9]+(?:\.[0-9]+)+))?(?:\.[0-9]+)*\Z"
)
_METADATA = re.compile(rb"([A-Za-z0-9][A-Za-z0-9._-]{0,99})-([0-9][A-Za-z0-9.+!_]{0,63})(?:-py[0-9.]+)?\.(?:dist|egg)-info\Z")
_VERSIONED = re.compile(rb"python[0-9]+(?:\.[0-9]+)?t?\Z")
_VERSIONS = (b"python3", b"python2.7", *(b"python3.%d%s" % (minor, build) for minor in range(5, 30) for build in (b"", b"t")))
_IMPORT = re.compile(rb"^[ \t]*(?:from|import)[ \t]+([A-Za-z_][A-Za-z0-9_]{0,63})", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Used:
    """What was found of one process. Names of packages are in small letters with ``_``."""

    packages: frozenset[str] = frozenset()
    """top-level packages of which it maps a library"""
    libraries: Mapping[str, str] = field(default_factory=dict)
    """stems of mapped libraries, such as ``libonnxruntime``, with the version in their names, or empty"""
    versions: Mapping[str, str] = field(default_factory=dict)
    """of the distributions installed where it takes packages from"""
    imports: frozenset[str] = frozenset()
    """top-level modules that its script names in import statements"""
    images: Mapping[str, str] = field(default_factory=dict)
    """versions of servers whose own image says them in a file"""


def mapped_files(maps: bytes) -> list[bytes]:
    """Distinct paths of files in the text of /proc/PID/maps."""
    found: dict[bytes, None] = {}
    for line in maps.splitlines():
        at = line.find(b"/")
        if at < 0:
            continue
        found[line[at:].removesuffix(b" (deleted)")] = None
        if len(found) >= _FILES:
            break
    return list(found)


def look_up(
    place: Place, mapped: Sequence[bytes], program: bytes, arguments: Sequence[bytes], cwd: bytes, asked: bytes = b"",
    opened: Callable[[Sequence[int]], None] = lambda _: None,
) -> Used:
    """What a process uses.

    Args:
        place: the process's own root.
        mapped: files that it maps.
        program: its resolved program file.
        cwd: its working folder, for a script with a relative name.
        asked: the name that was given to execve, which shows the environment of an interpreter that is a link; may be empty.
        opened: told of the descriptors of all that is going to be read, in ascending order; nothing is opened after that.
    """
    packages: set[str] = set()
    libraries: dict[str, str] = {}
    folders: dict[bytes, None] = {}
    for path in mapped:
        if site := _SITE.match(path):
            folders[site[1]] = None
            packages.add(normal(site[2].split(b".")[0]))
        if library := _LIBRARY.match(path[path.rfind(b"/") + 1 :]):
            stem = library[1].decode("ascii")
            libraries[stem] = _decoded(library[2]) or libraries.get(stem, "")
    script = _script(arguments) if _VERSIONED.match(program[program.rfind(b"/") + 1 :]) else b""
    for folder in _installed(place, program, asked, arguments, script):
        folders[folder] = None
    held = [place.folder(folder) for folder in list(folders)[:_FOLDERS]]
    text = place.file(script if script.startswith(b"/") else cwd.rstrip(b"/") + b"/" + script) if script else -1
    images = {name: place.file(path) for name, path in VERSION_FILES.items()}
    kept = sorted(fd for fd in (*held, text, *images.values()) if fd >= 0)
    try:
        opened(kept)
        return Used(
            packages=frozenset(packages),
            libraries=libraries,
            versions=_versions(held),
            imports=frozenset(normal(name) for name in _IMPORT.findall(_start(text, _SCRIPT_BYTES))),
            images={name: version for name, fd in images.items() if (version := _line(_start(fd, _VERSION_BYTES)))},
        )
    finally:
        for fd in kept:
            os.close(fd)


def normal(name: bytes) -> str:
    """A distribution's or module's name as metadata folders spell it."""
    return re.sub(r"[-_.]+", "_", name.decode("ascii", "replace")).lower()


def _versions(folders: Iterable[int]) -> dict[str, str]:
    """Versions by distribution; the first folder that has one counts, as it does for an import."""
    found: dict[str, str] = {}
    for folder in folders:
        for name in names_in(folder, _ENTRIES) if folder >= 0 else ():
            if match := _METADATA.match(name):
                found.setdefault(normal(match[1]), _decoded(match[2]))
    return found


def _installed(place: Place, program: bytes, asked: bytes, arguments: Sequence[bytes], script: bytes) -> list[bytes]:
    """Folders of packages beside what a process runs: of the script's and the interpreter's environment, or of a program that
    lies in a package itself."""
    for path in (program, script):
        if site := _SITE.match(path):
            return [site[1]]
    found: dict[bytes, None] = {}
    for path in (script, asked, arguments[0] if arguments else b"", program):
        folder, slash, _ = path.rpartition(b"/")
        prefix, bin_, name = folder.rpartition(b"/")
        if not slash or not path.startswith(b"/") or not bin_ or name not in (b"bin", b"sbin"):
            continue
        # Asked for by name: no folder is listed before privileges are given up.
        for version in _VERSIONS if place.holds(prefix + b"/lib") else ():
            if place.holds(b"%s/lib/%s" % (prefix, version)):
                found[b"%s/lib/%s/site-packages" % (prefix, version)] = None
                found[b"%s/lib/%s/dist-packages" % (prefix, version)] = None
    return list(found)


def _script(arguments: Sequence[bytes]) -> bytes:
    """The file that ``python ARGUMENTS`` runs; empty for a module, a command or none."""
    position = 1
    while position < min(len(arguments), 64):
        word = arguments[position]
        if word in (b"-m", b"-c", b"-"):
            return b""
        if word in (b"-W", b"-X"):
            position += 1
        elif not word.startswith(b"-"):
            return word
        position += 1
    return b""


def _start(fd: int, most: int) -> bytes:
    try:
        return os.read(fd, most) if fd >= 0 else b""
    except OSError:
        return b""


def _line(text: bytes) -> str:
    version = text.decode("ascii", "replace").strip()
    return version if version.isprintable() else ""


def _decoded(text: bytes | None) -> str:
    return text.decode("ascii", "replace") if text else ""
