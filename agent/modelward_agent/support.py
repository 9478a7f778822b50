"""``modelward-agent support``: one file with what somebody needs who looks into an agent from afar, and without secrets.

Nothing of a workload is put in: no event, no spooled record, no command line but the agent's own. What is put in goes through
:mod:`modelward_agent.enrich.redact` first, because an operator's labels, paths and log lines may hold a token all the same.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import socket
import tarfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from modelward_proto.text import escape

from modelward_agent import exit_codes, facts
from modelward_agent.enrich.redact import redact, redact_text
from modelward_agent.exit_codes import fail
from modelward_agent.settings import AgentSettings
from modelward_agent.state_folder import StateFolder

FOLDER = "modelward-support"


def support(settings: AgentSettings, *, output: str, hide_host: bool) -> int:
    """Write the file and print what is in it. Returns the exit code."""
    path = Path(output or time.strftime(f"{FOLDER}-%Y%m%dT%H%M%SZ.tar.gz", time.gmtime()))
    folder = StateFolder(Path(settings.state))
    names = {socket.gethostname(), settings.host_name} - {""} if hide_host else set()
    inert = Inert({name: _alias(name, folder.path) for name in names})
    try:
        # Never over something else, and for root's eyes.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as e:
        return fail(exit_codes.NOT_DONE, f"cannot make {path}: {e.strerror}; choose another --output")
    parts: list[tuple[str, str, Callable[[], Any]]] = [
        ("host.json", "kernel, its configuration as far as BPF goes, versions of libraries", facts.host),
        ("settings.json", "settings; of keys and certificates only whether they are set", lambda: facts.settings(settings)),
        ("agent.json", "processes of a running agent: capabilities, memory; pause, crashes, mode", lambda: facts.agent(folder)),
        ("check.json", "result of 'modelward-agent check --json'", lambda: facts.check(folder)),
        ("spool.json", "batches by lane and state, their age; no contents", lambda: facts.spool(folder.path / "spool")),
        ("ledger.json", "the loss ledger: events by hop and kind", lambda: facts.ledger(folder.path / "spool")),
        ("kernel.json", "what is pinned, and mounted kernel file systems", lambda: facts.kernel(settings)),
        ("log.txt", "the agent's last log lines", lambda: facts.log_lines(folder)),
    ]
    try:
        with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            print(f"{path} holds")
            for name, about, collect in parts:
                size = _add(archive, name, inert.text(_told(collect)))
                print(f"  {name:14} {size:>8} bytes  {about}")
    except OSError as e:
        path.unlink(missing_ok=True)
        return fail(exit_codes.NOT_DONE, f"cannot write {path}: {e.strerror}")
    print(f"Secrets that are known by their name or shape were replaced. Look into it before you send it: tar xzf {path}")
    return exit_codes.OK


class Inert:
    """Makes text of what was collected: secrets replaced, host names by their alias, nothing that acts on a terminal."""

    def __init__(self, aliases: Mapping[str, str]) -> None:
        self._aliases = [(re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])"), alias) for name, alias in aliases.items()]

    def text(self, found: Any) -> str:
        if isinstance(found, list) and all(isinstance(line, bytes) for line in found):
            return "".join(self._clean(line) + "\n" for line in found)
        return json.dumps(self._walk(found, ""), indent=2, ensure_ascii=True) + "\n"

    def _walk(self, value: Any, name: str) -> Any:
        if isinstance(value, dict):
            return {self._clean(str(key)): self._walk(item, str(key)) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._walk(item, name) for item in value]
        if isinstance(value, (str, bytes)):
            raw = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
            # A value whose name says that it is secret is one, whatever it looks like.
            return self._clean(redact([b"", f"--{name}".encode(), raw])[2] if raw else raw)
        return value

    def _clean(self, raw: str | bytes) -> str:
        if isinstance(raw, str):
            raw = raw.encode("utf-8", "surrogateescape")
        text = escape(redact_text(raw))
        for pattern, alias in self._aliases:
            text = pattern.sub(alias, text)
        return text


def _told(collect: Callable[[], Any]) -> Any:
    """One part; a part that cannot be had says why, and the others come all the same."""
    try:
        return collect()
    except Exception as e:
        return {"problem": f"{type(e).__name__}: {e}"}


def _add(archive: tarfile.TarFile, name: str, text: str) -> int:
    content = text.encode()
    entry = tarfile.TarInfo(f"{FOLDER}/{name}")
    entry.size, entry.mode, entry.mtime = len(content), 0o600, int(time.time())
    archive.addfile(entry, io.BytesIO(content))
    return len(content)


def _alias(name: str, state: Path) -> str:
    """The same in each file of one agent, and not to be guessed from a list of host names without its id."""
    try:
        key = (state / "agent.id").read_bytes()[:64]
    except OSError:
        key = os.urandom(32)
    return "host-" + hashlib.blake2s(name.encode(), key=key[:32]).hexdigest()[:12]
