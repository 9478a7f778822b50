"""The score as a table for people and as build/reports/phases.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from deploy.demo.report import Report
from tests.phases.score import Score, Tally

OVERALL, EACH, EXACT = 99.5, 98.0, 100.0
_SHOWN = 8


def share(right: int, of: int) -> float:
    """Per cent; 0 of none."""
    return 100.0 * right / of if of else 0.0


def say(result: Score) -> None:
    """One server, at once."""
    total = result.all
    print(f"  {total.events} events in {result.seconds:.0f} s: phase {share(total.phase, total.events):.2f} %, model "
          f"{share(total.model, total.events):.2f} %, origin {share(total.origin, total.events):.2f} %", flush=True)
    for words in result.notes:
        print(f"  {words}")
    for words in result.wrong[:_SHOWN]:
        print(f"    {words}")
    if len(result.wrong) > _SHOWN:
        print(f"    and {len(result.wrong) - _SHOWN} more", flush=True)


def show(done: Sequence[Score], not_run: Mapping[str, str], *, whole: bool) -> int:
    """Print the table and the goals, write the report if it is the ``whole`` one; the exit status."""
    report = Report("phases" if whole else "phases-part")
    total, good = Tally(), not not_run
    print(f"\n{'server':30} {'events':>7} {'phase %':>8} {'model %':>8} {'origin %':>8} {'unstored':>8} {'s':>4}  other")
    for one in done:
        sums = one.all
        total.add(sums)
        _row(one.name, sums, one, report)
        for role, tally in sorted(one.roles.items()):
            print(f"  {role:28} {_shares(tally)}")
            report.add(f"{one.name}, {role}: phase", share(tally.phase, tally.events), "%", "", True,
                       counted=f"{tally.events} events")
        worst = "; ".join(f"{words} {ms:.0f} ms" for words, ms in sorted(one.late_ms.items()) if ms)
        print(f"  {'latest':28} {worst or 'nothing was late'}")
        for words, ms in sorted(one.late_ms.items()):
            report.add(f"{one.name}: {words}", ms, "ms", "", True, counted="worst lateness of a tag")
    for name, why in not_run.items():
        print(f"{name:30} not run: {why.splitlines()[0]}")
        report.add(name, "not run", "", "to run", False, counted=why.splitlines()[0])
    worst_of_all = min((share(s.all.phase, s.all.events) for s in done), default=0.0)
    late = sum(s.late_requests for s in done)
    goals = [
        ("right phase, all servers", share(total.phase, total.events), "%", f"at least {OVERALL} %",
         share(total.phase, total.events) >= OVERALL),
        ("right phase, worst server", worst_of_all, "%", f"at least {EACH:.0f} %", worst_of_all >= EACH),
        ("right model", share(total.model, total.events), "%", "100 %", total.model == total.events),
        ("right origin", share(total.origin, total.events), "%", "100 %", total.origin == total.events),
        ("events of request threads tagged load 100 ms after the first answer", late, "events", "none", not late),
        ("false alarms, missed checks", sum(len(s.failed) for s in done), "", "none", not any(s.failed for s in done)),
        ("servers not run", len(not_run), "", "none", not not_run),
    ]
    print()
    for words, value, unit, goal, met in goals:
        good = good and met
        shown = f"{value:.2f}" if isinstance(value, float) else str(value)
        print(f"{words:72} {shown:>8} {unit:7} goal {goal}: {'ok' if met else 'MISSED'}")
        report.add(words, value, unit, goal, met, counted=f"{total.events} events of {len(done)} servers")
    for one in done:
        for words in one.failed:
            print(f"  {one.name}: {words}")
    print(f"written: {report.write()}")
    return 0 if good and done else 1


def _shares(tally: Tally) -> str:
    n = tally.events
    return f"{n:7} {share(tally.phase, n):8.2f} {share(tally.model, n):8.2f} {share(tally.origin, n):8.2f}"


def _row(name: str, sums: Tally, one: Score, report: Report) -> None:
    other = [f"{len(one.failed)} WRONG"] if one.failed else []
    other += [f"{one.untracked} marks before tracking"] if one.untracked else []
    print(f"{name:30} {_shares(sums)} {one.unstored:8} {one.seconds:4.0f}  {', '.join([*other, *one.notes])}")
    for what, right, goal in (("phase", sums.phase, EACH), ("model", sums.model, EXACT), ("origin", sums.origin, EXACT)):
        value = share(right, sums.events)
        report.add(f"{name}: {what}", value, "%", f"at least {goal:g} %", value >= goal,
                   counted=f"{sums.events} events in {one.seconds:.0f} s, {one.unstored} not stored")
