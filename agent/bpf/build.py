"""Builds the kernel objects, and tells whether those in the tree are what the sources make.

The objects are checked in, like the generated protobuf code, so that a user needs no compiler; ``BUILT`` beside them names
the sources and the compiler. ``make test`` builds them again and compares byte by byte.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
OBJECTS = HERE.parent / "modelward_agent" / "bpf"
RECORD = OBJECTS / "BUILT"
COMPILER = os.environ.get("CLANG", "clang-19")
FLAGS = (
    "-g", "-O2", "-Wall", "-Werror", "-target", "bpf", "-mcpu=v3", "-D__TARGET_ARCH_x86",
    "-ffile-compilation-dir=.", "-I.",
)


def digest() -> str:
    """sha256 over names and contents of the sources, and the flags."""
    found = hashlib.sha256(" ".join(FLAGS).encode())
    for source in sorted([*HERE.glob("*.c"), *HERE.glob("*.h")]):
        found.update(f"\0{source.name}\0".encode() + source.read_bytes())
    return found.hexdigest()


def programs() -> list[Path]:
    """The sources that become an object each."""
    return sorted(HERE.glob("*.bpf.c"))


def object_name(source: Path) -> str:
    return source.name.removesuffix(".c") + ".o"


def current() -> bool:
    """Whether the objects in the tree were made from these sources."""
    try:
        recorded = json.loads(RECORD.read_text())
    except (OSError, ValueError):
        return False
    return recorded["sources"] == digest() and all((OBJECTS / object_name(s)).exists() for s in programs())


def build(target: Path) -> None:
    """Compile every program into ``target``. Raises SystemExit with the compiler's words."""
    if shutil.which(COMPILER) is None:
        raise SystemExit(f"the kernel objects are not those of these sources, and there is no {COMPILER} to build them: "
                         "run 'deploy/packages.sh compile'")
    target.mkdir(parents=True, exist_ok=True)
    for source in programs():
        command = [COMPILER, *FLAGS, "-c", source.name, "-o", str(target / object_name(source))]
        made = subprocess.run(command, cwd=HERE, check=False)
        if made.returncode:
            raise SystemExit(made.returncode)


def _version() -> str:
    return subprocess.run([COMPILER, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


def ensure() -> None:
    """Build unless the objects are current."""
    if current():
        return
    build(OBJECTS)
    RECORD.write_text(json.dumps({"sources": digest(), "compiler": _version()}, indent=1) + "\n")
    print(f"built {', '.join(object_name(s) for s in programs())}")


def check() -> int:
    """Exit status: 0 when the checked-in objects are, byte by byte, what the sources make."""
    if not current():
        print("the kernel objects in the tree are stale: run 'make bpf' and commit them", file=sys.stderr)
        return 1
    made_by, here = json.loads(RECORD.read_text())["compiler"], _version()
    with tempfile.TemporaryDirectory() as scratch:
        build(Path(scratch))
        names = [object_name(source) for source in programs()]
        different = [name for name in names if (Path(scratch) / name).read_bytes() != (OBJECTS / name).read_bytes()]
    if different and made_by == here:
        print(f"not what the sources make: {', '.join(different)}; run 'make bpf'", file=sys.stderr)
        return 1
    print(f"kernel objects are current, {'equal byte by byte' if not different else f'made by another compiler ({made_by})'}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="build elsewhere and compare")
    if parser.parse_args().check:
        return check()
    ensure()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
