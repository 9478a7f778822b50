"""FakeGrafana: stands in for a Grafana server, which cannot be installed here. It does what Grafana and its ClickHouse plugin
(4.20) do with a query before it leaves, sends it to a real collector, and reads the answer in Native format.

It draws nothing. What a panel needs of its answer is in ``missing``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import clickhouse_connect
import yaml

ALL = "$__all"
NUMBER = re.compile(r"(Nullable\()?(U?Int|Float|Decimal)\d*")
TIME = re.compile(r"(Nullable\()?Date(Time)?")
TEXT = re.compile(r"(LowCardinality\()?(Nullable\()?String")


@dataclass(frozen=True)
class Answer:
    """Columns with their ClickHouse types, and rows."""

    columns: dict[str, str]
    rows: list[tuple[Any, ...]]

    def of(self, column: str) -> list[Any]:
        """The values of a column. An empty result has no columns either in Native format: the panel says "No data"."""
        if not self.columns:
            return []
        place = list(self.columns).index(column)
        return [row[place] for row in self.rows]

    def kind(self, pattern: re.Pattern[str]) -> list[str]:
        """Names of the columns whose type is of this kind."""
        return [name for name, type in self.columns.items() if pattern.match(type)]


@dataclass
class FakeGrafana:
    """One reader of the dashboard: what was chosen, and the span of time (seconds since 1970)."""

    folder: Path
    environment: Mapping[str, str]
    begin: int
    end: int
    interval_s: int = 60
    chosen: dict[str, str | Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.dashboard = json.loads((self.folder / "modelward-security.json").read_text())
        self.alerting = yaml.safe_load((self.folder / "provisioning/alerting/modelward.yaml").read_text())
        text = (self.folder / "provisioning/datasources/modelward.yaml").read_text()
        [self.source] = yaml.safe_load(re.sub(r"\$([A-Z_]+)", lambda m: self.environment[m[1]], text))["datasources"]
        about = self.source["jsonData"]
        self._client = clickhouse_connect.get_client(
            host=about["host"], port=int(about["port"]), secure=str(about["secure"]) == "true", username=about["username"],
            password=self.source["secureJsonData"]["password"], database=about["defaultDatabase"])

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    @property
    def panels(self) -> dict[str, dict[str, Any]]:
        """Panels by title; rows have none of their own."""
        return {panel["title"] + f" ({panel['type']})": panel for panel in self.dashboard["panels"] if panel["type"] != "row"}

    @property
    def variables(self) -> dict[str, dict[str, Any]]:
        """Template variables by name."""
        return {variable["name"]: variable for variable in self.dashboard["templating"]["list"]}

    @property
    def alerts(self) -> dict[str, dict[str, Any]]:
        """Alert rules by uid."""
        return {rule["uid"]: rule for group in self.alerting["groups"] for rule in group["rules"]}

    def panel(self, name: str) -> Answer:
        """What a panel gets."""
        [target] = self.panels[name]["targets"]
        assert target["datasource"] == {"type": self.source["type"], "uid": "${datasource}"}
        return self._ask(self._front(target["rawSql"]), target)

    def options(self, name: str) -> list[str]:
        """What a variable offers."""
        query = self.variables[name]["query"]
        if isinstance(query, str):
            return query.split(",")
        answer = self._ask(self._front(query["rawSql"]), query)
        assert len(answer.columns) == 1
        return [str(row[0]) for row in answer.rows]

    def fires(self, uid: str) -> list[dict[str, Any]]:
        """The rows for which an alert rule fires, with their labels. Alerts run in the back end: no variables there."""
        rule = self.alerts[uid]
        [query] = [q["model"] for q in rule["data"] if q["datasourceUid"] == self.source["uid"]]
        [threshold] = [q["model"] for q in rule["data"] if q["refId"] == rule["condition"]]
        [limit] = [c["evaluator"]["params"][0] for c in threshold["conditions"]]
        answer = self._ask(query["rawSql"], query)
        [value] = answer.kind(NUMBER)
        assert set(answer.columns) == {value, *answer.kind(TEXT)}, "a number and labels are wanted"
        return [row for row in (dict(zip(answer.columns, r, strict=True)) for r in answer.rows) if row[value] > limit]

    def missing(self, name: str, answer: Answer) -> str:
        """What the panel cannot be drawn without, '' when all is there."""
        panel = self.panels[name]
        times, numbers, texts = answer.kind(TIME), answer.kind(NUMBER), answer.kind(TEXT)
        named = [o["matcher"]["options"] for o in panel["fieldConfig"].get("overrides", ()) if o["matcher"]["id"] == "byName"]
        wanted = set(re.findall(r"__data\.fields\.([^:}]+)", json.dumps(panel))) | set(named)
        if absent := wanted - set(answer.columns):
            return f"links or settings name columns that are not there: {absent}"
        match panel["type"]:
            case "timeseries":
                ordered = answer.of(times[0]) == sorted(answer.of(times[0])) if times else False
                good = len(times) == 1 and numbers and ordered and len(times) + len(numbers) + len(texts) == len(answer.columns)
            case "stat":
                good = len(answer.rows) == 1 and len(numbers) == len(answer.columns)
            case "bargauge":
                good = len(numbers) == 1 and len(texts) == 1
            case "table":
                good = bool(answer.columns)
            case other:
                return f"no test knows what a panel of type {other} needs"
        return "" if good else f"{panel['type']} cannot show {answer.columns}"

    def _front(self, sql: str) -> str:
        """What the plugin's front end does, and then Grafana's: conditions on "All" go, values of variables come in."""
        while (start := sql.rfind("$__conditionalAll(")) >= 0:
            condition, variable, end = _arguments(sql, start + len("$__conditionalAll("))
            given = self.chosen.get(variable.strip().removeprefix("$"), ALL)
            sql = sql[:start] + ("1=1" if given in (ALL, "") else condition) + sql[end:]
        return re.sub(r"\$\{(\w+):singlequote\}", self._quoted, sql)

    def _quoted(self, found: re.Match[str]) -> str:
        given = self.chosen[found[1]]
        values = [given] if isinstance(given, str) else given
        return ",".join("'" + value.replace("'", "\\'") + "'" for value in values)

    def _ask(self, sql: str, query: Mapping[str, Any]) -> Answer:
        """What the plugin's back end does."""
        assert query["editorType"] == "sql"
        inside = f"toDateTime({self.begin})", f"toDateTime({self.end})"
        sql = re.sub(r"\$__timeFilter\(([^()]+)\)", rf"\1 >= {inside[0]} AND \1 <= {inside[1]}", sql)
        sql = re.sub(r"\$__timeInterval\(([^()]+)\)",
                     rf"toStartOfInterval(toDateTime(\1), INTERVAL {self.interval_s} second)", sql)
        assert not re.search(r"\$_|\$\{", sql), f"a macro or variable is left: {sql}"
        result = self._client.query(sql)
        types = (column.name for column in result.column_types)
        return Answer(dict(zip(result.column_names, types, strict=True)), list(result.result_rows))


def _arguments(sql: str, place: int) -> tuple[str, str, int]:
    """The two arguments that begin here, and where what follows them begins: commas and brackets inside them are theirs."""
    depth, comma = 0, 0
    for i in range(place, len(sql)):
        depth += (sql[i] in "([") - (sql[i] in ")]")
        if depth == 0 and sql[i] == ",":
            comma = i
        if depth < 0:
            return sql[place:comma], sql[comma + 1 : i], i + 1
    raise AssertionError(f"$__conditionalAll is not closed: {sql[place:]}")
