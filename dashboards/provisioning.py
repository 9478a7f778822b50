"""What Grafana is told at its start: where the collector is, and where the dashboard lies."""

from __future__ import annotations

from typing import Any

from dashboards.query import PLUGIN, UID


def datasources() -> dict[str, Any]:
    """The collector's ClickHouse interface. Grafana fills the variables from its own environment."""
    return {
        "apiVersion": 1,
        "datasources": [
            {
                "name": "Modelward",
                "uid": UID,
                "type": PLUGIN,
                "access": "proxy",
                "editable": False,
                "jsonData": {
                    "host": "$MODELWARD_HOST",
                    "port": "$MODELWARD_PORT",
                    "protocol": "http",
                    "secure": "$MODELWARD_TLS",
                    "tlsAuthWithCACert": "$MODELWARD_TLS",
                    "username": "grafana",
                    "defaultDatabase": "modelward",
                    "queryTimeout": "40",
                },
                "secureJsonData": {"password": "$MODELWARD_TOKEN", "tlsCACert": "$MODELWARD_CA"},
            }
        ],
    }


def dashboards() -> dict[str, Any]:
    """The folder that Grafana takes dashboards from."""
    return {
        "apiVersion": 1,
        "providers": [
            {
                "name": "Modelward",
                "folder": "Modelward",
                "type": "file",
                "allowUiUpdates": False,
                "options": {"path": "/var/lib/grafana/dashboards/modelward"},
            }
        ],
    }
