"""``make bench``: what the hot paths cost, each beside a peer in the same run, interleaved; spread is min to max of the rounds.

As root. Prints a table and writes build/reports/bench.json.
"""

from __future__ import annotations

import os
import sys

from deploy.demo.report import Report
from tests.bench import columns, opens


def main() -> int:
    if os.geteuid() != 0:
        print("make bench attaches to the kernel: run it as root", file=sys.stderr)
        return 1
    report = Report("bench")
    records = opens.measure(report)
    columns.measure(report, records)
    print(f"\n{'measure':46} {'value':>12}  {'unit':10} {'peer':34} {'ratio':>7}  goal")
    for row in report.rows:
        value = f"{row.value:,.0f}" if isinstance(row.value, float) else row.value
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        peer = "" if row.peer_value is None else f"{row.peer}: {row.peer_value:,.0f}"
        print(f"{row.measure:46} {value:>12}  {row.unit:10} {peer:34} {ratio:>7}  {row.goal}")
    print(f"\nwritten: {report.write()}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
