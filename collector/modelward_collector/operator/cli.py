"""``modelward``: detections, events, hosts and models of a collector, live or by SQL."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from modelward_proto import __version__

from modelward_collector.operator import flags, inventory, listings, rules, silencing, test_alert, timeline
from modelward_collector.operator.client import BadRequest, Client, CollectorError, Rows, Unreachable
from modelward_collector.operator.explained import show_explanation
from modelward_collector.operator.fields import show_fields
from modelward_collector.operator.follow import follow
from modelward_collector.operator.show import console, generic, safe

OK, ERROR, USAGE, UNREACHABLE = 0, 1, 2, 3
DEFAULT_URL = "http://127.0.0.1:4461"

_EXAMPLES = """\
examples:
  modelward detections --since 24h --severity high   what is wrong, worst rules only
  modelward incidents                                the same, grouped: one line per story
  modelward explain 2675b3c37f9b                     one of them in words, from the kernel's hook to here
  modelward silence 2675b3c37f9b --for 7d --reason "nightly retraining starts a shell"
  modelward tail --events                            watch events and detections as they arrive
  modelward events --host gpu-17 --phase load --event exec
                                                     what models started while they were loaded
  modelward events --process 4711 --since 2h         what one process did
  modelward models                                   what is loaded where, by digest
  modelward models tiny-llama                        one model: each host and workload that loaded it
  modelward timeline tiny-llama --since 2h           what its server did: phases and effects over time
  modelward test-alert gpu-17                        do alerts of this host arrive, and how fast
  modelward hosts                                    which agents are silent or lose events
  modelward fields file                              fields that have to do with files
  modelward rules test my_rule.yml --since 7d        what a rule of your own would have found
  modelward query "SELECT model_id, count() FROM events WHERE event_name = 'connect' GROUP BY model_id"
  modelward query --format CSVWithNames "SELECT * FROM detections" > detections.csv

Times are UTC. exit status: 0 done, 1 refused or failed, 2 wrong usage, 3 no collector answers."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of the command."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.command is None:
        parser.print_help()
        return USAGE
    try:
        status: int = given.run(given)
        return status
    except Unreachable as e:
        return _say(e, UNREACHABLE)
    except BadRequest as e:
        return _say(e, USAGE)
    except CollectorError as e:
        return _say(e, ERROR)
    except BrokenPipeError:
        # The reader of the pipe (head, less) has what it wanted.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except KeyboardInterrupt:
        return OK


def _say(error: CollectorError, status: int) -> int:
    # An error may repeat what the collector answered, and that what a host sent.
    print(f"modelward: {safe(error)}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    _add_common(common)
    parser = argparse.ArgumentParser(
        prog="modelward",
        description="Look into a Modelward collector: what models did on their hosts, and what was wrong with it.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"modelward {__version__}")
    _add_common(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")

    def command(name: str, help: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name, help=help, description=help[0].upper() + help[1:] + ".", parents=[common]
        )
        added.set_defaults(run=run)
        return added

    for listing in listings.LISTINGS.values():
        added = command(listing.name, listing.help, _list)
        flags.add(added, listing)
        if listing.name == "models":
            added.add_argument("of", metavar="MODEL", nargs="?", default="",
                               help="only this one, with each place of it: its name, or the start of its digest")
            added.set_defaults(run=_models)
    story = command("timeline", "what a workload did: its phases, by process and load, with the effects on them", _timeline)
    story.add_argument("of", metavar="WORKLOAD", help="its id or the start of it, or a model that it loaded")
    story.add_argument("--since", metavar="SPAN", default="", help="not before: 15m, 24h, 7d or 2026-11-25T07:00:00Z (1h)")
    story.add_argument("--until", metavar="SPAN", default="", help="before: the same")
    story.add_argument("--model", metavar="ID", default="", help="only loads of this model, and their processes")
    story.add_argument("--host", metavar="NAME", default="", help="of this host, where several have the workload")
    explain = command("explain", "one detection from hook to page, in words, with its evidence", _explain)
    explain.add_argument("id", metavar="ID", help="of a detection, or the start of it: at least 6 digits")
    test = command("test-alert", "send a harmless alert from the kernel of a host through every hop, and time them", _test_alert)
    test.add_argument("host", metavar="HOST", help="as 'modelward hosts' names it")
    test.add_argument("--timeout", type=float, default=30, metavar="SECONDS", help="how long to wait for the last hop (30)")
    silencing.add_commands(command, _client)
    rules.add_command(commands, common, _client)
    tail = command("tail", "detections as they are made, until Ctrl-C", _tail)
    tail.add_argument("--events", action="store_true", help="events too, not only detections")
    tail.add_argument("--limit", type=int, metavar="N", default=0, help="stop after N rows")
    tail.add_argument("--host", metavar="NAME", default="", help="only of this host")
    fields = command(
        "fields", "the fields of an event: name, type, values, meaning (needs no collector)", _fields
    )
    fields.add_argument("word", metavar="WORD", nargs="?", default="", help="only fields with this in their name or meaning")
    query = command(
        "query", "a SELECT over events, detections, incidents, models, hosts, ledger, exceptions, outputs", _query
    )
    query.add_argument("sql", metavar="SQL", help="one SELECT (ClickHouse SQL); '-' reads it from standard input")
    query.add_argument(
        "--format", metavar="NAME", help="CSV, CSVWithNames, JSON, JSONEachRow, Vertical, Parquet, ..."
    )
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    suppress = parser.argument_default == argparse.SUPPRESS

    def default(value: object) -> object:
        return argparse.SUPPRESS if suppress else value

    url = os.environ.get("MODELWARD_URL", DEFAULT_URL)
    parser.add_argument(
        "--url", default=default(url), help=f"the collector (MODELWARD_URL; default {DEFAULT_URL})"
    )
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        default=default(os.environ.get("MODELWARD_TOKEN_FILE", "")),
        help="file with the collector's token (MODELWARD_TOKEN_FILE)",
    )
    parser.add_argument(
        "--ca",
        metavar="FILE",
        default=default(os.environ.get("MODELWARD_CA", "")),
        help="certificates that vouch for the collector (MODELWARD_CA)",
    )
    parser.add_argument(
        "--json", action="store_true", default=default(False), help="JSON for programs: one row a line"
    )


def _client(given: argparse.Namespace) -> Client:
    token = None
    if given.token_file:
        try:
            token = Path(given.token_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as e:
            raise BadRequest(f"--token-file: {given.token_file} cannot be read: {e}.") from e
    return Client(given.url, token, Path(given.ca) if given.ca else None)


def _list(given: argparse.Namespace) -> int:
    listing = listings.LISTINGS[given.command]
    found = _client(given).rows(listing.name, flags.to_send(given, listing))
    if given.json:
        _print_json(found)
    else:
        listings.show(listing, found, console(), flags.as_typed(given, listing))
    return OK


def _models(given: argparse.Namespace) -> int:
    if not given.of:
        return _list(given)
    return inventory.run(_client(given), given.of, as_json=given.json)


def _timeline(given: argparse.Namespace) -> int:
    asked = {"of": given.of, "since": given.since, "until": given.until, "model": given.model, "host": given.host}
    return timeline.run(_client(given), asked, as_json=given.json)


def _explain(given: argparse.Namespace) -> int:
    made = _client(given).explanation(given.id)
    if given.json:
        print(json.dumps(made.as_json()))
    else:
        show_explanation(made, console())
    return OK


def _test_alert(given: argparse.Namespace) -> int:
    return test_alert.run(_client(given), given.host, given.timeout, as_json=given.json)


def _tail(given: argparse.Namespace) -> int:
    return follow(_client(given), events=given.events, as_json=given.json, limit=given.limit, host=given.host)


def _fields(given: argparse.Namespace) -> int:
    return show_fields(given.word, as_json=given.json)


def _query(given: argparse.Namespace) -> int:
    sql = sys.stdin.read() if given.sql == "-" else given.sql
    found = _client(given).query(sql, given.format)
    if isinstance(found, bytes):
        sys.stdout.buffer.write(found)
        sys.stdout.buffer.flush()
    elif given.json:
        _print_json(found)
    else:
        shown = console()
        shown.print(generic(found.columns, found.rows, shown.width))
        if not found.complete:
            shown.print(f"The first {len(found.rows):,} rows; there may be more.", style="dim")
    return OK


def _print_json(found: Rows) -> None:
    for row in found.rows:
        print(json.dumps(row))


if __name__ == "__main__":
    sys.exit(main())
