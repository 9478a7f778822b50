"""What a host sends when something happens there, as rows of the wire: for tests of what people see of it."""

from __future__ import annotations

import time
from typing import Any

from tests.batches import BOOT

Row = dict[str, Any]

HOSTILE = (
    "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    "\\x1b[31m\\xe2\\x80\\xae[bold]{{7*7}}%00&lt;"
)
"""What an agent leaves of a hostile name: markup stays as it is, controls and bidi marks became \\xNN."""


def process(pid: int, program: str, chain: str, command: str = "") -> Row:
    """Fields of a process."""
    return {
        "host.boot_id": BOOT,
        "workload.id": "container:4f1d9c2ab07e",
        "workload.runtime": "uvicorn",
        "process.pid": pid,
        "thread.id": pid,
        "process.entity_id": f"{BOOT[:8]}-{pid}-55000000",
        "process.root_id": f"{BOOT[:8]}-4700-54000000",
        "process.chain": chain,
        "process.entry": "child",
        "process.executable.path": program,
        "process.command_line": command or program.rpartition("/")[2],
    }


def serving(instance: int, model: str) -> list[Row]:
    """A server that loads a model and answers: nothing wrong."""
    server = process(4700, "/usr/bin/python3.11", "python3.11", "uvicorn app:app") | {
        "process.entry": "server",
        "model.instance": instance,
    }
    now = time.time_ns()
    return [
        server | {"time": now - 3000, "event.name": "exec", "lifecycle.phase": "start"},
        server
        | {
            "time": now - 2000,
            "event.name": "lifecycle",
            "lifecycle.phase": "load",
            "lifecycle.from": "start",
            "lifecycle.trigger": "artifact_open",
            "file.path": f"/srv/{model}",
        },
        server
        | {
            "time": now - 1000,
            "event.name": "lifecycle",
            "lifecycle.phase": "serve",
            "lifecycle.from": "load",
            "lifecycle.trigger": "answer",
        },
        identified(instance, model, now - 500),
    ]


def identified(instance: int, model: str, time_ns: int) -> Row:
    """The row that names the model of an instance."""
    return process(4700, "/usr/bin/python3.11", "python3.11") | {
        "time": time_ns,
        "event.name": "model_identity",
        "model.instance": instance,
        "model.id": model,
        "model.digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "model.format": "joblib",
        "model.source": "file",
        "model.path": f"/srv/{model}",
    }


def poisoned_load(
    instance: int, model: str, *, command: str = "sh -c id", program: str = "/usr/bin/dash"
) -> list[Row]:
    """A load that starts a shell: critical, by rule shell_in_load."""
    now = time.time_ns()
    shell = process(4712, program, f"python3.11 > {program.rpartition('/')[2]}", command)
    scope = {
        "lifecycle.phase": "load",
        "lifecycle.scope": "open",
        "lifecycle.origin.phase": "load",
        "lifecycle.origin.scope": "open",
        "lifecycle.origin.via": "fork",
        "lifecycle.origin.instance": instance,
        "model.instance": instance,
    }
    return [
        process(4700, "/usr/bin/python3.11", "python3.11")
        | {
            "time": now - 3000,
            "event.name": "lifecycle",
            "lifecycle.phase": "load",
            "lifecycle.from": "start",
            "lifecycle.trigger": "artifact_open",
            "file.path": f"/srv/{model}",
            "model.instance": instance,
        },
        shell | scope | {"time": now - 2000, "event.name": "exec", "process.executable.asked": "/bin/sh"},
        identified(instance, model, now - 1000),
    ]


def stolen_credentials(instance: int) -> list[Row]:
    """A serving process that reads cloud credentials: not critical."""
    return [
        process(812, "/usr/bin/python3.11", "python3.11")
        | {
            "time": time.time_ns() - 1000,
            "event.name": "file_open",
            "file.path": "/root/.aws/credentials",
            "file.access": "read",
            "lifecycle.phase": "serve",
            "model.instance": instance,
        }
    ]
