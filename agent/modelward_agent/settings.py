"""Settings of the agent: flags, ``MODELWARD_AGENT_*`` variables or a TOML file."""

from __future__ import annotations

import re
from dataclasses import dataclass

from modelward_proto.settings import SettingsError, setting

PREFIX = "MODELWARD_AGENT"
MIN_SPOOL_BYTES = 16 << 20
"""Room for a few full batches: less would drop events in any hiccup of the network."""
MAX_LABELS = 16
_LABEL = re.compile(r"([a-z][a-z0-9_]{0,31})=([ -~]{1,63})")


@dataclass(frozen=True)
class AgentSettings:
    """What ``modelward-agent run`` can be told."""

    collector: str = setting("127.0.0.1:4460", "where the collector listens; TLS unless on this host", metavar="HOST:PORT")
    state: str = setting("/var/lib/modelward-agent", "folder of the agent's id and of unsent events", metavar="DIR")
    watch: tuple[str, ...] = setting(
        (), "also a model server: the exact base name of a program or script, or a Python module; may be repeated", metavar="NAME"
    )
    pins: str = setting("", "where hooks are pinned, in a bpf file system (default: a folder per state folder)", metavar="DIR")
    spool_max_bytes: int = setting(1 << 30, "disk space for events that the collector does not have yet", metavar="BYTES")
    label: tuple[str, ...] = setting(
        (), f"shown with every alert of this host, as in env=prod; may be repeated, up to {MAX_LABELS}", metavar="NAME=VALUE"
    )
    host_name: str = setting("", "name of this host where no certificate names it (default: the kernel's)", metavar="NAME")
    tls_ca: str = setting("", "PEM certificates that the collector's must come from", metavar="FILE")
    tls_cert: str = setting("", "PEM certificate of this agent; it names the host", metavar="FILE")
    tls_key: str = setting("", "PEM private key of this agent", metavar="FILE")
    hint_socket: str = setting(
        "/run/modelward/hint.sock", "where processes may say which phase they are in (docs/hints.md); empty: nowhere",
        metavar="PATH",
    )
    keep_hooks: bool = setting(False, "on SIGTERM leave the hooks in the kernel, so that a restart or an upgrade leaves no gap")
    crash_limit: int = setting(
        3, "after so many crashes within ten minutes run without hooks, and tell the collector why; 0: never", metavar="TIMES"
    )
    log_level: str = setting("info", "debug, info, warning or error", metavar="LEVEL")
    log_format: str = setting("auto", "json, text, or auto (text on a terminal)", metavar="FORM")

    def __post_init__(self) -> None:
        if self.spool_max_bytes < MIN_SPOOL_BYTES:
            raise SettingsError(f"spool_max_bytes: at least {MIN_SPOOL_BYTES} are wanted, not {self.spool_max_bytes}")
        check_labels(self.label)
        if self.crash_limit < 0:
            raise SettingsError(f"crash_limit: 0 or more is wanted, not {self.crash_limit}")
        if self.log_level not in ("debug", "info", "warning", "error"):
            raise SettingsError(f"log_level: debug, info, warning or error is wanted, not {self.log_level!r}")


def check_labels(labels: tuple[str, ...]) -> None:
    """Raises SettingsError: a label is not NAME=VALUE, is there twice, or there are too many."""
    if len(labels) > MAX_LABELS:
        raise SettingsError(f"label: at most {MAX_LABELS} are wanted, not {len(labels)}")
    names: set[str] = set()
    for label in labels:
        match = _LABEL.fullmatch(label)
        if match is None:
            raise SettingsError(
                f"label: {label!r} is not NAME=VALUE, as in env=prod: NAME of a-z, 0-9 and _ (up to 32, a letter first), "
                "VALUE of 1 to 63 printable ASCII characters"
            )
        if match[1] in names:
            raise SettingsError(f"label: {match[1]} is given twice")
        names.add(match[1])
