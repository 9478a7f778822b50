"""A query of Grafana's ClickHouse plugin (4.x), for which the SDK has no builder, and the parts of SQL that panels share."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.common import DataSourceRef

PLUGIN: Final = "grafana-clickhouse-datasource"
UID: Final = "modelward"
"""Of the provisioned data source; alert rules name it, panels go by the variable ``datasource``."""

TIME_SERIES: Final = 0
TABLE: Final = 1

# Front-end macros leave a filter out while its variable says "All", so that a fleet's names are never listed in a query.
_IN_ENV = "hasAny({labels}, arrayMap(v -> concat('env=', v), [${{env:singlequote}}]))"
OF_HOST: Final = "$__conditionalAll(host_name IN (${host:singlequote}), $host)"
OF_SEVERITY: Final = "$__conditionalAll(severity IN (${severity:singlequote}), $severity)"


def of_env(labels: str) -> str:
    """The hosts whose label ``env`` was chosen. ``labels``: the column or subquery that has a host's labels."""
    return f"$__conditionalAll({_IN_ENV.format(labels=labels)}, $env)"


DETECTIONS: Final = (
    "silenced_by = ''\n  AND rule_name != 'test_alert'\n"
    f"  AND {of_env('host_labels')}\n  AND {OF_HOST}\n  AND {OF_SEVERITY}"
)
"""Detections that somebody should look at: neither silenced ones, nor those that somebody provoked to test the way."""

INCIDENTS: Final = (
    "NOT all_silenced\n  AND rule_name != 'test_alert'\n"
    f"  AND {of_env('host_labels')}\n  AND {OF_HOST}\n  AND {OF_SEVERITY}"
)

HOSTS: Final = f"{of_env('labels')}\n  AND {OF_HOST}"

OF_HOSTS: Final = (
    "$__conditionalAll(host_name IN (SELECT host_name FROM hosts WHERE "
    f"{_IN_ENV.format(labels='labels')}), $env)\n  AND {OF_HOST}"
)
"""The same for tables that have no labels."""


class ClickHouseQuery(Dataquery):
    """What the plugin keeps of a query. ``format``: :data:`TIME_SERIES` or :data:`TABLE`."""

    def __init__(self, sql: str, format: int, *, ref: str = "A", uid: str = "${datasource}") -> None:
        self.ref_id = ref
        self._sql = sql
        self._format = format
        self._uid = uid

    def to_json(self) -> dict[str, object]:
        """The plugin's JSON."""
        return {
            "refId": self.ref_id,
            "datasource": {"type": PLUGIN, "uid": self._uid},
            "editorType": "sql",
            "rawSql": self._sql,
            "format": self._format,
            "queryType": "timeseries" if self._format == TIME_SERIES else "table",
        }


class Target(Builder[Dataquery]):
    """A query where the SDK wants a builder of one."""

    def __init__(self, query: ClickHouseQuery) -> None:
        self._query = query

    def build(self) -> Dataquery:
        """The query."""
        return self._query


def target(sql: str, format: int = TABLE, ref: str = "A") -> Target:
    """A panel's query."""
    return Target(ClickHouseQuery(sql, format, ref=ref))


def source() -> DataSourceRef:
    """The data source that the reader of the dashboard chose."""
    return DataSourceRef(type_val=PLUGIN, uid="${datasource}")
