"""``make bench``: what the parts cost, each beside a peer in the same run, interleaved.

As root, on a machine with nothing else to do. Prints what it found and writes build/reports/bench.json; with ``--only`` the parts
named, into a report named after them.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
import traceback

from deploy.demo.report import Report, Row
from tests.bench.progress import say

PARTS = {
    "a": ("kernel to agent, beside bcc and bpftrace", ("opens",)),
    "b": ("agent's columns; collector: receive, judge by 100 rules, store", ("columns", "collector")),
    "c": ("model servers bare, under the agent, under strace", ("servers",)),
    "d": ("memory and idle CPU of the daemons", ("footprint",)),
    "e": ("hook to stored detection", ("latency",)),
    "f": ("rows stored an hour by benign servers", ("rows",)),
    "g": ("queries on ten million rows", ("queries",)),
    "h": ("probed functions, and events with and without tags", ("probes",)),
    "i": ("first start of an agent beside servers that run", ("late_start",)),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help="parts to run, such as a,c; " + "; ".join(
        f"{letter}: {title}" for letter, (title, _) in PARTS.items()))
    chosen = [part.strip() for part in parser.parse_args().only.split(",") if part.strip()]
    if unknown := sorted(set(chosen) - set(PARTS)):
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if os.geteuid() != 0:
        print("make bench attaches to the kernel: run it as root", file=sys.stderr)
        return 1
    report = Report("bench" if set(chosen) == set(PARTS) else "bench-" + "".join(sorted(set(chosen))))
    for letter in sorted(set(chosen)):
        title, modules = PARTS[letter]
        say(f"({letter}) {title}")
        begun, first = time.monotonic(), len(report.rows)
        for module in modules:
            try:
                importlib.import_module(f"tests.bench.{module}").measure(report)
            except Exception as e:
                # What the other parts measure is worth having all the same.
                traceback.print_exc()
                report.add(f"part {letter}, {module}", f"{type(e).__name__}: {e}", "", "to run", False)
        say(f"({letter}) took {time.monotonic() - begun:.0f} s")
        for row in report.rows[first:]:
            print(_line(row))
        # What was measured so far is not lost if a later part fails.
        path = report.write()
    print(f"\nwritten: {path}")
    return 1 if any(row.goal == "to run" for row in report.rows) else 0


def _line(row: Row) -> str:
    value = f"{row.value:,.0f}" if isinstance(row.value, float) and abs(row.value) >= 100 else (
        f"{row.value:,.3g}" if isinstance(row.value, float) else str(row.value))
    parts = [f"      {row.measure}: {value} {row.unit}".rstrip()]
    if row.peer_value is not None:
        parts.append(f"{row.peer} {row.peer_value:,.4g}, {row.ratio:.3g} times" if row.ratio is not None
                     else f"{row.peer} {row.peer_value:,.4g}")
    parts += [f"goal {row.goal}: {'met' if row.ok else 'MISSED'}"] if row.goal else []
    parts += [text for text in (row.spread, row.counted) if text]
    return "; ".join(parts)


if __name__ == "__main__":
    raise SystemExit(main())
