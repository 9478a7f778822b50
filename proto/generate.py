"""Generates ``modelward_proto/v1`` from ``modelward/v1/*.proto``; ``--check`` compares instead and fails on a difference."""

from __future__ import annotations

import argparse
import filecmp
import re
import sys
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

HERE = Path(__file__).parent
TARGET = HERE / "modelward_proto" / "v1"


def generate(target: Path) -> None:
    """Write the Python modules, their stubs and the gRPC modules into ``target``."""
    sources = sorted((HERE / "modelward" / "v1").glob("*.proto"))
    with tempfile.TemporaryDirectory() as scratch:
        builtin = Path(grpc_tools.__file__).parent / "_proto"
        status = protoc.main(
            ["protoc", f"-I{HERE}", f"-I{builtin}", f"--python_out={scratch}", f"--pyi_out={scratch}",
             f"--grpc_python_out={scratch}", *map(str, sources)]
        )
        if status:
            raise SystemExit(status)
        target.mkdir(parents=True, exist_ok=True)
        (target / "__init__.py").write_text('"""Generated from proto/modelward/v1 by ``make proto``."""\n')
        for made in sorted((Path(scratch) / "modelward" / "v1").iterdir()):
            # protoc imports by the path of the .proto file; the package that we ship has another name.
            text = re.sub(r"\bmodelward\.v1 import", "modelward_proto.v1 import", made.read_text())
            (target / made.name).write_text(text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with what is committed, change nothing")
    if not parser.parse_args().check:
        generate(TARGET)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        wanted = sorted(p.name for p in Path(scratch).iterdir())
        _, different, missing = filecmp.cmpfiles(scratch, TARGET, wanted, shallow=False)
    if different or missing:
        print(f"generated code is stale, run 'make proto': {', '.join(different + missing)}", file=sys.stderr)
        return 1
    print(f"generated code is current: {len(wanted)} files")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
