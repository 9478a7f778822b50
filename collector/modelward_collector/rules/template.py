"""A rule to begin with: it passes its checks and its own tests, and says at each part what belongs there."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime
from pathlib import Path

NAME = re.compile(r"[a-z][a-z0-9_]{1,63}", re.ASCII)

_TEMPLATE = """\
# A Modelward rule: a Sigma file with Modelward's fields ('modelward fields' lists them with their values).
#   modelward rules lint {file}               is it a rule?
#   modelward rules test {file}               does it do what its own tests say?
#   modelward rules test {file} --since 7d    what would it have found in the last 7 days?
# Then put it into a folder of your own: modelward-collector run --rules FOLDER. It is taken up without a restart.

title: Network tool started by a serving process       # what the alert is called
id: {id}               # names this rule for ever: keep it when you change the rule
status: experimental
description: >
  A short text for whoever reads this file: what is looked for, and what is left out and why.
author: {author}
date: {date}

# category is an event.name: exec, file_open, connect, listen, exit, fork, lifecycle, ... Leave it out to look at several.
logsource: {{product: modelward, category: exec}}

detection:
  # A selection: all of its fields must hold. A list of values means any of them. Texts ignore case; * and ? are wildcards.
  tool:
    process.executable.class: network_tool
  # Phase is context, never permission: a process can choose its phase, so name the ones around serve too.
  in_service:
    lifecycle.phase: [load, warmup, serve, stop]
  # What healthy servers do. 'entered' came in from outside the workload, such as a health probe.
  expected:
    - process.entry: entered
    - process.command_line|startswith: 'ssh-keyscan '
  # and, or, not, brackets, '1 of x*', 'all of them'
  condition: tool and in_service and not expected

falsepositives:
  - What could match and be harmless.

level: medium                                           # informational, low, medium, high, critical
tags: [attack.t1095, atlas.aml.t0050]                   # at least one technique of ATT&CK and one of ATLAS

modelward:
  # Why it is wrong, and what to do now: one or two plain sentences each. People read them in the alert.
  reason: A server that answers requests has no use for a network tool; whoever is in it has.
  next: Look at what the tool talked to, and at the requests just before it was started.
  # One sentence for the alert. Fields in braces are filled in; {{artifact}} is the model file.
  sentence: "{{workload.runtime}} started {{process.executable.path}}: {{process.command_line}}"
  # Detections that agree in these fields are one incident. Without it: workload, load and first process.
  group: [workload.id, process.root_id]
  # Tests: an event is what it says, and empty, 0, false or the first value in all other fields.
  tests:
    match:
      - {{process.executable.class: network_tool, lifecycle.phase: serve, process.command_line: nc 203.0.113.7 4444}}
    no_match:
      - {{process.executable.class: network_tool, lifecycle.phase: start}}
      - {{process.executable.class: network_tool, lifecycle.phase: serve, process.entry: entered}}
      - {{process.executable.class: interpreter, lifecycle.phase: serve}}
"""


class CannotWrite(Exception):
    """The file was not written; the message says why."""


def write_template(name: str, folder: Path, author: str) -> Path:
    """Write ``NAME.yml`` into a folder, and never over another file.

    Raises:
        CannotWrite: the name is none, the file is there already, or the folder cannot be written to.
    """
    if not NAME.fullmatch(name):
        raise CannotWrite(f"'{name}' cannot name a rule: small letters, digits and underscores are wanted, such as my_rule")
    path = folder / f"{name}.yml"
    text = _TEMPLATE.format(file=path, id=uuid.uuid4(), author=_quoted(author), date=datetime.now(UTC).date().isoformat())
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as e:
        raise CannotWrite(f"{path} is there already; choose another name, or remove it first") from e
    except OSError as e:
        raise CannotWrite(f"{path} cannot be written: {e.strerror or e}") from e
    return path


def _quoted(text: str) -> str:
    """As a YAML text, whatever it holds."""
    return "'" + text.replace("'", "''") + "'"
