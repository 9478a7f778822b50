"""``modelward-agent``: watch this host (``run``), and what a person on it may ask of the agent."""

from __future__ import annotations

import argparse
import logging
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path

from modelward_proto import __version__
from modelward_proto.logs import configure
from modelward_proto.settings import add_flags, load, unknown_variables

from modelward_agent import exit_codes
from modelward_agent.exit_codes import fail
from modelward_agent.settings import PREFIX, AgentSettings

_TOP = """\
On a new host:
  modelward-agent check                what can be watched here, each hook proven with a probe
  modelward-agent run                  watch, and send to the collector on this host

When something is wrong with a host, and the agent may be the reason:
  modelward-agent pause --reason "looking into slow reads"
  modelward-agent resume
  modelward-agent support              a file for whoever looks into it, without secrets

The agent needs root. It sends to a collector on this host in plaintext, and to any other only with --tls-ca,
--tls-cert and --tls-key. Events that the collector does not have yet wait in STATE/spool and survive a crash.
Each setting is also a variable (MODELWARD_AGENT_COLLECTOR) and a key of the TOML file (collector = "...").

"""

_RUN = """\
SIGTERM or Ctrl-C stops it: what is in the rings is spooled, and delivered if the collector answers. SIGHUP tries hooks
again that the kernel refused. While an operator paused it, after --crash-limit crashes within ten minutes, or when the
kernel refuses its programs, it runs without any hook and tells the collector why; refused hooks are tried again each hour.

"""

log = logging.getLogger("modelward_agent")


def parser() -> argparse.ArgumentParser:
    """All commands and flags."""
    top = argparse.ArgumentParser(
        prog="modelward-agent", epilog=_TOP + exit_codes.WORDS, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Watches what model servers do to this host, and streams it to a Modelward collector.",
    )
    top.add_argument("--version", action="version", version=f"modelward-agent {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, help: str, description: str, more: str = "") -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=help, description=textwrap.fill(description, 110), epilog=more + exit_codes.WORDS,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    run = command("run", "watch this host until stopped", "Watch this host and stream what model servers do.", _RUN)
    add_flags(run, AgentSettings, PREFIX)
    check = command(
        "check", "say what this host offers and what cannot be seen here",
        "Try every hook, take the best one for each effect, and prove it by provoking the effect.",
    )
    check.add_argument("--json", action="store_true", help="for programs")
    check.add_argument("--no-probes", action="store_true", help="leave out probes on functions, which take seconds to prove")
    pause = command(
        "pause", "detach every hook now, and leave them off",
        "Detach every hook from the kernel now. The agent keeps its stream and tells the collector that it is paused, by whom "
        "and why. It stays so over restarts until 'modelward-agent resume'. Works with no agent running, too.",
    )
    pause.add_argument("--reason", default="", metavar="TEXT", help="shown to the security team")
    resume = command(
        "resume", "attach the hooks again",
        "End a pause. An agent whose hooks were refused, or that crashed too often, tries again at once.",
    )
    uninstall = command(
        "uninstall", "remove everything that the agent made on this host",
        "Remove the hooks, what is pinned in /sys/fs/bpf, mounts that the agent made, and its state folder. Events that were not "
        "delivered are lost with it. The package itself is removed as it was installed (pip, or the distribution's tool).",
        "Under systemd, 'systemctl disable --now modelward-agent' comes first: it would start the agent again.\n\n",
    )
    uninstall.add_argument("--stop", action="store_true", help="stop the agent that runs with this state folder first")
    uninstall.add_argument("--keep-state", action="store_true",
                           help="leave the state folder: this host's identity, and unsent events")
    support = command(
        "support", "write a file about this agent for whoever helps with it, without secrets",
        "Collect settings, doors, ledger, spool figures, kernel configuration and the last log lines into a tar.gz file, and "
        "print what is in it. Secrets, keys and events are left out. Look into it before you send it.",
    )
    support.add_argument("--output", default="", metavar="FILE", help="default: modelward-support-TIME.tar.gz in this folder")
    support.add_argument("--hide-host", action="store_true", help="a digest in place of this host's name")
    for each in (pause, resume, uninstall, support):
        each.add_argument("--state", metavar="DIR", help="state folder of the agent (default: as its settings say)")
        each.add_argument("--config", metavar="FILE", help=f"TOML file with its settings (variable {PREFIX}_CONFIG)")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the command. Returns the exit code."""
    parsed = parser().parse_args(arguments)
    if parsed.command == "check":
        from modelward_agent.check import check

        return check(as_json=parsed.json, probes=not parsed.no_probes)
    try:
        if parsed.command != "run":
            return _care(parsed)
        settings = load(AgentSettings, PREFIX, parsed)
        configure(settings.log_level, settings.log_format)
    except ValueError as e:
        return fail(exit_codes.USAGE, str(e))
    for name in unknown_variables(AgentSettings, PREFIX):
        log.warning("this variable is no setting and is ignored", extra={"variable": name})
    from modelward_agent.run import run

    return run(settings)


def _care(parsed: argparse.Namespace) -> int:
    """Commands about an agent that may run. Raises SettingsError."""
    if os.geteuid() != 0:
        return fail(exit_codes.HOST, f"'{parsed.command}' needs root: run it with sudo")
    # A folder that is named needs no settings: they may be what is broken.
    if parsed.state is not None and parsed.command != "support":
        settings = AgentSettings(state=parsed.state)
    else:
        settings = load(AgentSettings, PREFIX, parsed)
    if parsed.command == "support":
        from modelward_agent.support import support

        return support(settings, output=parsed.output, hide_host=parsed.hide_host)
    from modelward_agent.care import Care

    care = Care(Path(settings.state), Path(settings.pins) if settings.pins else None)
    if parsed.command == "pause":
        return care.pause(parsed.reason)
    if parsed.command == "resume":
        return care.resume()
    return care.uninstall(stop=parsed.stop, keep_state=parsed.keep_state)


if __name__ == "__main__":
    raise SystemExit(main())
