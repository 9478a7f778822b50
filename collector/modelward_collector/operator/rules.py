"""``modelward rules lint | test | new``: rules of one's own, checked before a collector takes them up."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelward_proto.extras import need
from rich.console import Console
from rich.text import Text

from modelward_collector.operator.client import BadRequest, Client, CollectorError, Refused, TooMuch
from modelward_collector.operator.show import SEVERITY_STYLES, Column, console, plain, safe, short_time, table
from modelward_collector.operator.silencing import author

if TYPE_CHECKING:
    import polars as pl

    from modelward_collector.rules.history import Findings, Needs
    from modelward_collector.rules.rule import Rule

GOOD, WRONG = 0, 1
PAGE = 50_000
_LEAST_PAGE = 500

Connect = Callable[[argparse.Namespace], Client]


def add_command(commands: Any, common: argparse.ArgumentParser, connect: Connect) -> None:
    """The command with its three parts."""
    text = "check rules of your own, try them on what has happened, write a new one"
    rules = commands.add_parser("rules", help=text, description=text[0].upper() + text[1:] + ".")
    parts = rules.add_subparsers(dest="part", required=True, metavar="lint | test | new")

    def part(name: str, text: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = parts.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + ".", parents=[common])
        added.set_defaults(run=run)
        return added

    lint = part("lint", "say what is wrong with rule files, by file and line (needs no collector)", _lint)
    about = "run the rules' own tests; with --since, also find what they would have found"
    test = part("test", about, lambda given: _test(given, connect))
    for one in (lint, test):
        one.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="files or folders; without any, the shipped rules")
    test.add_argument("--since", default="", metavar="SPAN", help="try them on the collector's events: 24h, 7d or a time")
    test.add_argument("--until", default="", metavar="SPAN", help="before: the same")
    test.add_argument("--host", default="", metavar="NAME", help="only on events of this host")
    new = part("new", "write a commented rule with tests to begin with (needs no collector)", _new)
    new.add_argument("name", metavar="NAME", help="of the rule and, with .yml, of the file: my_rule")
    new.add_argument("--folder", type=Path, default=Path(), metavar="DIR", help="where to write it (the current folder)")


def _need() -> None:
    need("modelward rules", "collector", "polars", "sigma", "yaml")


def _lint(given: argparse.Namespace) -> int:
    _need()
    from modelward_collector.rules.files import NoRules, read_files

    try:
        found = read_files(given.paths)
    except NoRules as e:
        raise BadRequest(f"{e}.") from e
    _tell(found.problems, as_json=given.json)
    if not given.json:
        good = len(found.rules)
        print(f"{good} rule{'' if good == 1 else 's'} in order, {_problems(len(found.problems))}", file=sys.stderr)
    return WRONG if found.problems else GOOD


def _problems(count: int) -> str:
    return "no problem" if not count else f"{count} problem{'' if count == 1 else 's'}"


def _tell(problems: Sequence[Any], *, as_json: bool) -> None:
    for problem in problems:
        if as_json:
            print(json.dumps({"file": problem.file, "line": problem.line, "message": problem.message}))
        else:
            print(safe(problem))


def _test(given: argparse.Namespace, connect: Connect) -> int:
    _need()
    from modelward_collector.rules.files import NoRules, read_files
    from modelward_collector.rules.self_tests import run

    if not given.since and (given.until or given.host):
        raise BadRequest("--until and --host narrow the events of --since: give that as well.")
    try:
        found = read_files(given.paths)
    except NoRules as e:
        raise BadRequest(f"{e}.") from e
    failed = {rule.id: run(rule) for rule in found.rules}
    problems = [*found.problems, *(problem for some in failed.values() for problem in some)]
    shown = console()
    if not given.json and not given.since:
        rows = [_tested(rule, len(failed[rule.id])) for rule in found.rules]
        shown.print(table(_TESTED, rows, shown.width))
    _tell(problems, as_json=given.json)
    if given.since:
        client = connect(given)
        for rule in found.rules:
            findings = _search(rule, given, client, found.classes)
            if given.json:
                print(json.dumps(_as_json(findings)))
            else:
                _show(findings, given.since, shown)
    return WRONG if problems else GOOD


_TESTED = (
    Column("rule", plain("name", "bold")),
    Column("severity", lambda row: Text(row["severity"], SEVERITY_STYLES.get(row["severity"], ""))),
    Column("own tests", lambda row: Text(row["tests"], "red" if row["failed"] else "green")),
    Column("ATT&CK and ATLAS", plain("attack"), fold=True, room=100),
)


def _tested(rule: Rule, failed: int) -> dict[str, Any]:
    count = len(rule.match) + len(rule.no_match)
    tests = f"{failed} of {count} fail" if failed else f"{count} pass"
    return {"name": rule.name, "severity": rule.severity, "tests": tests, "failed": failed, "attack": rule.attack}


def _search(rule: Rule, given: argparse.Namespace, client: Client, classes: Any) -> Findings:
    from modelward_collector.rules.history import search

    span = {name: getattr(given, name) for name in ("since", "until", "host") if getattr(given, name)}
    try:
        return search(rule, lambda needs: _pages(client, needs, span), classes)
    except RuntimeError as e:
        raise CollectorError(f"Rule {rule.name} cannot be tried on these events: {e}") from e


def _pages(client: Client, needs: Needs, span: dict[str, str]) -> Iterator[pl.DataFrame]:
    """Every stored event that the rule can match, page by page; a page that is too large is asked for again in halves."""
    import polars as pl
    import pyarrow as pa

    narrowed = {f"is.{name}": ",".join(some) for name, some in needs.values.items()}
    asked = {**span, "columns": ",".join(needs.columns), **narrowed}
    if any(not some for some in needs.values.values()):
        return
    limit = PAGE
    after = ""
    while True:
        try:
            data = client.history({**asked, "limit": str(limit), **({"after": after} if after else {})})
        except TooMuch:
            if limit <= _LEAST_PAGE:
                raise
            limit = max(_LEAST_PAGE, limit // 4)
            continue
        try:
            page = pl.from_arrow(pa.ipc.open_stream(data).read_all()) if data else None
        except pa.ArrowException as e:
            raise Refused(f"{client.url} did not answer with events.") from e
        if not isinstance(page, pl.DataFrame) or not page.height:
            return
        yield page
        if page.height < limit:
            return
        last = page.tail(1).with_columns(pl.col("time").dt.epoch("ns"))
        after = json.dumps([last[name][0] for name in ("host_name", "time", "agent_id", "epoch", "batch", "row")])


def _as_json(findings: Findings) -> dict[str, Any]:
    return {
        "rule": findings.rule.name, "version": findings.rule.version,
        "looked_at": findings.looked_at, "matches": findings.matches,
        "by_day": dict(findings.by_day), "by_host": dict(findings.by_host), "alerts": findings.alerts, "groups": findings.groups,
        "complete": findings.complete, "samples": findings.samples,
    }


def _show(findings: Findings, since: str, shown: Console) -> None:
    rule = findings.rule
    shown.print(Text(rule.name, "bold").append(f"  {rule.severity}", SEVERITY_STYLES.get(rule.severity, "")))
    if not findings.matches:
        kinds = f"{findings.looked_at:,} events were of the kinds and phases that it looks at"
        shown.print(f"  It would have found nothing since {safe(since)}; {kinds}.\n")
        return
    alerts = f"{findings.alerts:,} detection{'' if findings.alerts == 1 else 's'}"
    more = "" if findings.complete else f" of the first {findings.matches:,} matches; there were more"
    groups = f"{findings.groups:,} group{'' if findings.groups == 1 else 's'}"
    shown.print(f"  {findings.matches:,} of {findings.looked_at:,} events that it looks at match: {alerts}{more}, in {groups}.")
    for title, counts in (("a day", sorted(findings.by_day.items())), ("by host", findings.by_host.most_common(10))):
        most = max(count for _, count in counts)
        for name, count in counts:
            bar = "▇" * max(1, round(30 * count / most))
            line = Text(f"  {title:8}", "dim").append(f"{safe(name):24} ")
            shown.print(line.append(f"{count:>9,} ", "bold").append(bar, "cyan"))
            title = ""
    shown.print(Text("  the latest", "dim"))
    for sample in findings.samples:
        line = Text(f"  {short_time(sample['time']):>12} ", "dim").append(f"{safe(sample['host_name'])} ", "bold")
        shown.print(line.append(safe(sample["sentence"])))
    shown.print()


def _new(given: argparse.Namespace) -> int:
    from modelward_collector.rules.template import CannotWrite, write_template

    try:
        path = write_template(given.name, given.folder, author())
    except CannotWrite as e:
        raise BadRequest(f"{e}.") from e
    if given.json:
        print(json.dumps({"file": str(path)}))
    else:
        print(f"{safe(path)} is written. Change it, then: modelward rules test {safe(path)}")
    return GOOD
