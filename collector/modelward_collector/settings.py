"""Settings of the collector, and the combinations that it refuses."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modelward_proto.pem import PemError, check_authorities, check_pair
from modelward_proto.settings import SettingsError, setting

from modelward_collector.data_folder import DataFolder
from modelward_collector.outputs import address as webhook

PREFIX = "MODELWARD_COLLECTOR"
"""Start of the variables' names: ``MODELWARD_COLLECTOR_DATA`` and so on."""

GIB = 1 << 30


@dataclass(frozen=True)
class CollectorSettings:
    """Everything an operator can set; ``modelward-collector run --help`` prints it."""

    data: Path = setting(
        dataclasses.MISSING, "folder for events, detections and everything else that is kept", metavar="DIR")
    listen: str = setting(
        "127.0.0.1:4460", "address for agents (gRPC); off loopback it needs --tls-cert, --tls-key and --tls-client-ca",
        metavar="HOST:PORT")
    http: str = setting(
        "127.0.0.1:4461", "address for people (web page, API, metrics); off loopback it needs --http-tls-cert, "
        "--http-tls-key and --http-token-file", metavar="HOST:PORT")
    tls_cert: Path | None = setting(None, "certificate shown to agents (PEM)", metavar="FILE")
    tls_key: Path | None = setting(None, "its key (PEM)", metavar="FILE")
    tls_client_ca: Path | None = setting(
        None, "certificates that sign the agents' certificates (PEM); the name in an agent's certificate is its host name",
        metavar="FILE")
    http_tls_cert: Path | None = setting(None, "certificate of the web page and API (PEM)", metavar="FILE")
    http_tls_key: Path | None = setting(None, "its key (PEM)", metavar="FILE")
    http_token_file: Path | None = setting(
        None, "file with the token that people and programs show to the page and API", metavar="FILE")
    rules: tuple[Path, ...] = setting(
        [], "folder with more detection rules (Sigma YAML) beside the shipped ones; may be given several times",
        metavar="DIR")
    retention_days: int = setting(30, "days that events are kept", metavar="DAYS")
    detection_retention_days: int = setting(365, "days that detections, and the exceptions for them, are kept", metavar="DAYS")
    max_store_bytes: int = setting(
        100 * GIB, "size of the store at which the oldest days are dropped before their time", metavar="BYTES")
    min_free_bytes: int = setting(
        GIB, "free disk space below which agents are asked to wait; they keep their events", metavar="BYTES")
    max_quarantine_bytes: int = setting(
        256 << 20, "size of the folder with batches that were set aside; the oldest go first", metavar="BYTES")
    receivers: int = setting(1, "processes that receive and judge", metavar="N")
    silent_after_s: int = setting(60, "seconds without a word after which a host counts as silent", metavar="SECONDS")
    webhook_url: str | None = setting(
        None, "where detections are sent, signed (docs/outputs.md); https, or http on this machine. May hold a token: then give "
        "it in the TOML file or the variable", metavar="URL")
    webhook_secret_file: Path | None = setting(
        None, "file with the secret by which the receiver knows who sends", metavar="FILE")
    webhook_min_severity: str = setting("medium", "send detections this severe or worse", metavar="LEVEL")
    webhook_ca: Path | None = setting(
        None, "certificates to trust beside the system's, for the webhook (PEM)", metavar="FILE")
    webhook_from_start: bool = setting(
        False, "a webhook that is new begins with all detections that are kept, not with those from now on")
    log_level: str = setting("info", "debug, info, warning or error", metavar="LEVEL")
    log_format: str = setting("auto", "json, text or auto (text on a terminal)", metavar="FORM")

    @property
    def folder(self) -> DataFolder:
        """The layout under ``data``."""
        return DataFolder(self.data)

    @property
    def webhook_is_local(self) -> bool:
        """Whether the webhook's receiver is on this machine.

        Raises:
            SettingsError: the URL is none.
        """
        return self.webhook_url is not None and is_loopback(webhook.split(self.webhook_url).hostname or "")

    def check(self) -> None:
        """Refuse what would be unsafe or cannot work.

        Raises:
            SettingsError: with one sentence that names the setting and the way out.
        """
        host, _ = split_address(self.listen, "--listen")
        http_host, _ = split_address(self.http, "--http")
        _pair(self.tls_cert, self.tls_key, "--tls-cert", "--tls-key")
        _pair(self.http_tls_cert, self.http_tls_key, "--http-tls-cert", "--http-tls-key")
        if self.tls_client_ca and not self.tls_cert:
            raise SettingsError("--tls-client-ca needs --tls-cert and --tls-key as well")
        if self.tls_cert and not self.tls_client_ca:
            raise SettingsError("--tls-cert needs --tls-client-ca: agents are known by their certificates")
        if not is_loopback(host) and not self.tls_cert:
            raise SettingsError(
                f"--listen {self.listen} is not a loopback address: agents on other hosts need TLS; "
                "give --tls-cert, --tls-key and --tls-client-ca, or listen on 127.0.0.1")
        if not is_loopback(http_host) and not (self.http_tls_cert and self.http_token_file):
            raise SettingsError(
                f"--http {self.http} is not a loopback address: give --http-tls-cert, --http-tls-key and "
                "--http-token-file, or use 127.0.0.1 (an SSH tunnel reaches it)")
        for name in ("tls_cert", "tls_key", "tls_client_ca", "http_tls_cert", "http_tls_key", "http_token_file"):
            path = getattr(self, name)
            if path and not os.access(path, os.R_OK):
                raise SettingsError(f"--{name.replace('_', '-')} {path}: no such file, or not readable")
        if self.http_token_file and not self.http_token_file.read_text(encoding="utf-8").strip():
            raise SettingsError(f"--http-token-file {self.http_token_file} is empty")
        try:
            for certificate, key in ((self.tls_cert, self.tls_key), (self.http_tls_cert, self.http_tls_key)):
                if certificate and key:
                    check_pair(certificate, key)
            if self.tls_client_ca:
                check_authorities(self.tls_client_ca)
        except PemError as e:
            raise SettingsError(str(e)) from e
        webhook.check(
            self.webhook_url, self.webhook_secret_file, self.webhook_min_severity, self.webhook_ca,
            loopback=self.webhook_is_local)
        for folder in self.rules:
            if "," in str(folder):
                raise SettingsError(f"--rules {folder}: a path with a comma cannot be passed on; name the folder without one")
            if not folder.is_dir():
                raise SettingsError(f"--rules {folder}: no such folder")
        for name, least in (("retention_days", 1), ("detection_retention_days", 1), ("receivers", 1), ("silent_after_s", 1),
                            ("max_store_bytes", 1 << 20), ("min_free_bytes", 0), ("max_quarantine_bytes", 0)):
            if getattr(self, name) < least:
                raise SettingsError(f"--{name.replace('_', '-')}: at least {least} is wanted")
        if self.receivers > 64:
            raise SettingsError("--receivers: at most 64; one per core is plenty")
        if self.log_level not in ("debug", "info", "warning", "error"):
            raise SettingsError(f"--log-level: debug, info, warning or error is wanted, not {self.log_level!r}")
        if self.log_format not in ("auto", "json", "text"):
            raise SettingsError(f"--log-format: auto, json or text is wanted, not {self.log_format!r}")

    def environment(self) -> dict[str, str]:
        """These settings as variables: how the supervisor hands them to its processes."""
        values: dict[str, str] = {}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if value is None:
                continue
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            values[f"{PREFIX}_{item.name.upper()}"] = text
        return values


def without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which no setting of the collector is left."""
    return {k: v for k, v in environment.items() if not k.startswith(PREFIX + "_")}


def split_address(address: str, name: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT`` or ``[IPV6]:PORT``.

    Raises:
        SettingsError: it is neither.
    """
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise SettingsError(f"{name}: HOST:PORT is wanted, such as 127.0.0.1:4460, not {address!r}")
    return host, int(port)


def join_address(host: str, port: int) -> str:
    """The reverse of :func:`split_address`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a socket bound to this host name or address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _pair(first: Path | None, second: Path | None, first_name: str, second_name: str) -> None:
    if (first is None) != (second is None):
        raise SettingsError(f"{first_name} and {second_name} belong together: give both")
