"""Finds functions in one file, in a process of its own that has given up all else: ``python -m modelward_agent.probes.worker``.

A job comes as JSON on standard input: ``fd``, a descriptor that it inherits, and ``names``. The answer is one JSON object on
standard output: ``functions``, name to offset, or ``error``.
"""

from __future__ import annotations

import json
import os
import sys

from modelward_agent.confinement import confine
from modelward_agent.probes.elf import Elf
from modelward_agent.probes.elf_tables import ElfError, Source

_MEMORY = 1 << 30
_CPU_S = 30


def main() -> int:
    job = json.loads(sys.stdin.buffer.read(1 << 16))
    os.nice(10)
    try:
        confine([job["fd"]], memory=_MEMORY, cpu_s=_CPU_S)
        answer: dict[str, object] = {"functions": Elf(Source(job["fd"])).functions(job["names"])}
    except OSError as e:
        answer = {"error": f"cannot be looked into: {e.strerror}"}
    except ElfError as e:
        answer = {"error": str(e)}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
