"""``python -m modelward_collector.rules [FOLDER ...]``: check the shipped rules, and those of some folders,
and run their own tests.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from modelward_collector.rules.reload import RuleFolder
from modelward_collector.rules.self_tests import run


def main(arguments: Sequence[str]) -> int:
    """Print a table of the rules and what is wrong. 0 when nothing is, else 1."""
    folder = RuleFolder([Path(argument) for argument in arguments])
    console = Console()
    table = Table("rule", "severity", "ATT&CK and ATLAS", "tests", title=f"{len(folder.rules)} rules")
    problems = list(folder.problems)
    for rule in folder.rules:
        failed = run(rule)
        problems += failed
        count = len(rule.match) + len(rule.no_match)
        good = f"{count} pass" if not failed else f"{len(failed)} of {count} fail"
        table.add_row(rule.name, rule.severity, " ".join(rule.attack), good)
    console.print(table)
    for problem in problems:
        console.print(f"{problem}", style="red", markup=False, highlight=False, soft_wrap=True)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
