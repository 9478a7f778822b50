"""Exit codes of ``modelward-agent``, the same for every command, and how they are told."""

from __future__ import annotations

import sys

OK = 0
NOT_DONE = 1
USAGE = 2
HOST = 3
STATE = 4

WORDS = """\
exit codes:
  0  done as asked; for check: every effect is watched and proven
  1  not (wholly) done: what is left, or why, is said; for check: some effect cannot be seen here, or no probe proved it
  2  a wrong flag, setting or certificate
  3  this host cannot be watched: no root, or, for check, no BTF or a kernel that refuses
  4  the state folder is in use by another agent, or cannot be used
"""


def fail(code: int, reason: str) -> int:
    """Say in one line why the command ends with ``code``."""
    print(f"modelward-agent: {reason}", file=sys.stderr)
    return code
