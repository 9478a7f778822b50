"""What the demo asks of the collector, over the same HTTP interface that people and dashboards use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True, slots=True)
class Detection:
    """One stored detection, with the names that were bound to its instances by now."""

    id: str
    rule: str
    title: str
    severity: str
    sentence: str
    event: str
    phase: str
    scope: str
    origin: str
    origin_model: str
    origin_instance: int
    model: str
    digest: str
    instance: int
    evidence: str
    chain: str
    command: str
    file: str
    address: str
    port: int
    pid: int
    root_pid: int
    event_ns: int
    judged_ns: int


_COLUMNS = """
    detection_id AS id, rule_name AS rule, rule_title AS title, severity, sentence, event_name AS event,
    lifecycle_phase AS phase, lifecycle_scope AS scope, lifecycle_evidence AS evidence,
    lifecycle_origin_phase AS origin, lifecycle_origin_model AS origin_model,
    lifecycle_origin_instance AS origin_instance, model_id AS model, model_digest AS digest, model_instance AS instance,
    process_chain AS chain, process_command_line AS command, file_path AS file,
    destination_address AS address, destination_port AS port, process_pid AS pid, process_root_id AS root,
    toUnixTimestamp64Nano(time) AS event_ns, toUnixTimestamp64Nano(detected_at) AS judged_ns
"""
_NUMBERS = ("origin_instance", "instance", "port", "pid", "event_ns", "judged_ns")


class Console:
    """A collector's HTTP interface."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, timeout=20.0, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, **parameters: Any) -> list[dict[str, Any]]:
        """Rows of one of the lists: ``hosts``, ``models``, ``events``, ``detections``, ``incidents``.

        Raises:
            httpx.HTTPError: the collector did not answer, or refused.
        """
        answer = self._http.get(f"/api/v1/{path}", params=parameters)
        answer.raise_for_status()
        rows: list[dict[str, Any]] = answer.json()["rows"]
        return rows

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Rows of a SELECT; a 64-bit number comes as text.

        Raises:
            httpx.HTTPError: the collector did not answer, or refused.
        """
        answer = self._http.post("/api/v1/query", content=sql, headers={"accept": "application/json"})
        answer.raise_for_status()
        rows: list[dict[str, Any]] = answer.json()["rows"]
        return rows

    def problems(self) -> list[dict[str, Any]]:
        """What is wrong with rule files: file, line and message of each problem."""
        answer = self._http.get("/api/v1/rules")
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()["problems"]
        return found

    def healthy(self) -> bool:
        """Whether the collector says that its store and receivers are there."""
        try:
            return self._http.get("/healthz").status_code == 200
        except httpx.HTTPError:
            return False

    def detections(self) -> list[Detection]:
        """All stored detections, oldest first."""
        rows = self.query(f"SELECT {_COLUMNS} FROM detections ORDER BY time, detection_id LIMIT 10000")
        return [_detection(row) for row in rows]


def _detection(row: dict[str, Any]) -> Detection:
    root = pid_of(str(row.pop("root")))
    return Detection(**row | {name: int(row[name]) for name in _NUMBERS}, root_pid=root)


def pid_of(entity: str) -> int:
    """The process id within a process key (``BOOT-PID-START``); 0 when there is none."""
    parts = entity.split("-")
    return int(parts[1]) if len(parts) == 3 else 0
