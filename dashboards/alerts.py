"""Alert rules, as Grafana reads them from a provisioning file. They have no variables, so they look at every host."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.models.alerting import Query, RelativeTimeRange

from dashboards.query import TABLE, UID, ClickHouseQuery
from dashboards.security import UID as DASHBOARD

WINDOW_S = 600
"""How far back a rule looks: a detection alerts for this long, and one that is stored late is still seen."""

_EXPRESSIONS = "__expr__"


def groups() -> dict[str, Any]:
    """The document: one group, evaluated each minute."""
    rules = [
        _rule(
            "modelward-detection",
            "Modelward: detection of high severity or worse",
            "SELECT host_name, rule_name, toString(severity) AS severity, count() AS detections\nFROM detections\n"
            "WHERE $__timeFilter(stored_at)\n  AND severity IN ('high', 'critical')\n  AND silenced_by = ''\n"
            "GROUP BY host_name, rule_name, severity",
            "{{ $labels.severity }}: {{ $labels.rule_name }} on {{ $labels.host_name }}",
            "Open the incident in Modelward; it says what happened, why that is wrong and what to do next.",
        ),
        _rule(
            "modelward-silent",
            "Modelward: host silent",
            "SELECT host_name, toUInt8(min(silent)) AS silent\nFROM hosts\n"
            "WHERE last_seen > now() - INTERVAL 7 DAY\nGROUP BY host_name",
            "No word from the agent on {{ $labels.host_name }}",
            "Nobody watches this host: look whether it is up, and at 'journalctl -u modelward-agent' there.",
        ),
    ]
    group = {"orgId": 1, "name": "modelward", "folder": "Modelward", "interval": "1m", "rules": rules}
    return {"apiVersion": 1, "groups": [group]}


def _rule(uid: str, title: str, sql: str, summary: str, description: str) -> dict[str, Any]:
    return {
        "uid": uid,
        "title": title,
        "condition": "C",
        "for": "0s",
        "noDataState": "OK",
        "execErrState": "Error",
        "data": [
            Query(
                ref_id="A",
                datasource_uid=UID,
                relative_time_range=RelativeTimeRange(from_val=WINDOW_S, to=0),
                model=ClickHouseQuery(sql, TABLE, uid=UID),
            ),
            _expression("B", {"type": "reduce", "expression": "A", "reducer": "last"}),
            _expression(
                "C",
                {"type": "threshold", "expression": "B", "conditions": [{"evaluator": {"type": "gt", "params": [0]}}]},
            ),
        ],
        "labels": {"source": "modelward"},
        "annotations": {"summary": summary, "description": description, "__dashboardUid__": DASHBOARD},
    }


def _expression(ref: str, model: dict[str, Any]) -> dict[str, Any]:
    reference = {"type": _EXPRESSIONS, "uid": _EXPRESSIONS}
    return {"refId": ref, "datasourceUid": _EXPRESSIONS, "model": {"refId": ref, "datasource": reference, **model}}
