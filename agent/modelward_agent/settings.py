"""Settings of the agent: flags, ``MODELWARD_AGENT_*`` variables or a TOML file."""

from __future__ import annotations

from dataclasses import dataclass

from modelward_proto.settings import SettingsError, setting

PREFIX = "MODELWARD_AGENT"
MIN_SPOOL_BYTES = 16 << 20
"""Room for a few full batches: less would drop events in any hiccup of the network."""


@dataclass(frozen=True)
class AgentSettings:
    """What ``modelward-agent run`` can be told."""

    collector: str = setting("127.0.0.1:4460", "where the collector listens; TLS unless on this host", metavar="HOST:PORT")
    state: str = setting("/var/lib/modelward-agent", "folder of the agent's id and of unsent events", metavar="DIR")
    watch: tuple[str, ...] = setting(
        (), "also a model server: the exact base name of a program or script, or a Python module; may be repeated", metavar="NAME"
    )
    spool_max_bytes: int = setting(1 << 30, "disk space for events that the collector does not have yet", metavar="BYTES")
    host_name: str = setting("", "name of this host where no certificate names it (default: the kernel's)", metavar="NAME")
    tls_ca: str = setting("", "PEM certificates that the collector's must come from", metavar="FILE")
    tls_cert: str = setting("", "PEM certificate of this agent; it names the host", metavar="FILE")
    tls_key: str = setting("", "PEM private key of this agent", metavar="FILE")
    log_level: str = setting("info", "debug, info, warning or error", metavar="LEVEL")
    log_format: str = setting("auto", "json, text, or auto (text on a terminal)", metavar="FORM")

    def __post_init__(self) -> None:
        if self.spool_max_bytes < MIN_SPOOL_BYTES:
            raise SettingsError(f"spool_max_bytes: at least {MIN_SPOOL_BYTES} are wanted, not {self.spool_max_bytes}")
        if self.log_level not in ("debug", "info", "warning", "error"):
            raise SettingsError(f"log_level: debug, info, warning or error is wanted, not {self.log_level!r}")
