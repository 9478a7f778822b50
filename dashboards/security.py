"""The security team's dashboard: what was found, where, how sure we are of it, and whether all hosts are watched."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders.dashboard import Dashboard, Row
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as model

from dashboards import panels
from dashboards.panels import Link, number, over_time, ranking, rows
from dashboards.query import DETECTIONS, HOSTS, INCIDENTS, OF_HOSTS, PLUGIN, of_env, source

UID = "modelward-security"
CONSOLE = "http://127.0.0.1:4461"

_LOST = "('missed', 'ring_dropped', 'evicted', 'quarantined')"
_RANK = "indexOf(['informational', 'low', 'medium', 'high', 'critical'], toString(severity))"
_FIELD = "${{__data.fields.{}:percentencode}}"


def board() -> model.Dashboard:
    """The whole dashboard."""
    builder = (
        Dashboard("Modelward: security")
        .uid(UID)
        .description("What models did to their hosts that they should not have done, and whether every host is watched.")
        .tags(["modelward", "security"])
        .time("now-24h", "now")
        .refresh("1m")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .link(
            build.DashboardLink("Modelward console")
            .type(model.DashboardLinkType.LINK)
            .url("${console}")
            .icon("external link")
            .target_blank(True)
        )
    )
    for variable in _variables():
        builder = builder.with_variable(variable)
    for panel in (*_summary(), *_findings()):
        builder = builder.with_panel(panel)
    builder = builder.with_row(Row("Hosts and what they saw"))
    for panel in _hosts():
        builder = builder.with_panel(panel)
    made = builder.build()
    for place, part in enumerate(made.panels or (), 1):
        part.id_val = place
    return made


def _variables() -> tuple[build.DatasourceVariable | build.QueryVariable | build.CustomVariable | build.TextBoxVariable, ...]:
    every = model.VariableOption(selected=True, text="All", value="$__all")
    env = "substring(arrayJoin(arrayFilter(l -> startsWith(l, 'env='), labels)), 5)"
    envs = f"SELECT DISTINCT {env} AS env FROM hosts ORDER BY env"
    hosts = f"SELECT DISTINCT host_name FROM hosts WHERE {of_env('labels')} ORDER BY host_name"
    return (
        build.DatasourceVariable("datasource").label("Data source").type(PLUGIN),
        _query("env", "Environment", "The hosts' label env.", envs).current(every),
        _query("host", "Host", "Names in the agents' certificates.", hosts).current(every),
        build.CustomVariable("severity").label("Severity").values(",".join(panels.SEVERITIES)).multi(True).include_all(True).current(every),
        build.TextBoxVariable("console")
        .label("Console")
        .description("Address of Modelward's own page, for the links.")
        .default_value(CONSOLE)
        .current(model.VariableOption(selected=True, text=CONSOLE, value=CONSOLE)),
    )


def _query(name: str, label: str, about: str, sql: str) -> build.QueryVariable:
    return (
        build.QueryVariable(name)
        .label(label)
        .description(about)
        .datasource(source())
        .query({"editorType": "sql", "rawSql": sql, "refId": name})
        .definition(sql)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.DISABLED)
        .multi(True)
        .include_all(True)
    )


def _console(title: str, path: str) -> Link:
    return title, "${console}" + path


def _summary() -> tuple[Builder[model.Panel], ...]:
    return (
        number(
            "Incidents",
            "Detections of one workload that belong together, seen in this time and not silenced.",
            f"SELECT count() AS incidents\nFROM incidents\nWHERE $__timeFilter(last)\n  AND {INCIDENTS}",
            bad_from=1,
        ),
        number(
            "High or critical",
            "Detections of these severities that nobody silenced.",
            "SELECT count() AS detections\nFROM detections\nWHERE $__timeFilter(time)\n"
            f"  AND severity IN ('high', 'critical')\n  AND {DETECTIONS}",
            bad_from=1,
        ),
        number(
            "Detections",
            "All that nobody silenced.",
            f"SELECT count() AS detections\nFROM detections\nWHERE $__timeFilter(time)\n  AND {DETECTIONS}",
        ),
        number(
            "Hosts watched",
            "Hosts whose agent is connected and watches.",
            "SELECT uniqExactIf(host_name, connected AND mode = 'watching') AS hosts\nFROM hosts\n"
            f"WHERE {HOSTS}",
        ),
        number(
            "Silent",
            "Hosts whose agent said nothing for longer than the collector waits.",
            f"SELECT uniqExactIf(host_name, silent) AS hosts\nFROM hosts\nWHERE {HOSTS}",
            bad_from=1,
        ),
        number(
            "Paused or degraded",
            "Hosts whose agent speaks but does not watch.",
            f"SELECT uniqExactIf(host_name, mode != 'watching' AND NOT silent) AS hosts\nFROM hosts\nWHERE {HOSTS}",
            bad_from=1,
        ),
        number(
            "Events lost",
            "What agents and collector counted as lost, of hosts that changed their ledger in this time.",
            f"SELECT sum(count) AS lost\nFROM ledger\nWHERE $__timeFilter(at)\n  AND hop IN {_LOST}\n  AND {OF_HOSTS}",
            bad_from=1,
        ),
        number(
            "Hook to detection, p99",
            "From the effect in the kernel to the rule that matched; without events that came after an outage.",
            "SELECT quantile(0.99)(dateDiff('millisecond', time, detected_at)) / 1000 AS p99\nFROM detections\n"
            f"WHERE $__timeFilter(time)\n  AND NOT late\n  AND {DETECTIONS}",
            unit="s",
        ),
    )


def _findings() -> tuple[Builder[model.Panel], ...]:
    per = f"WHERE $__timeFilter(time)\n  AND {DETECTIONS}"
    incident = _console("Open the incident", "/?incident=" + _FIELD.format("key"))
    detection = _console("Explain this detection", "/?detection=" + _FIELD.format("id"))
    return (
        over_time(
            "Detections by severity",
            "Silenced ones are left out.",
            "SELECT $__timeInterval(time) AS at, severity, count() AS detections\nFROM detections\n"
            f"{per}\nGROUP BY at, severity\nORDER BY at",
            colours=panels.SEVERITIES,
            width=16,
        ),
        ranking(
            "Rules that matched most",
            "A rule that matches often on good workloads wants an exception or an edit.",
            f"SELECT rule_name AS rule, count() AS detections\nFROM detections\n{per}\n"
            "GROUP BY rule\nORDER BY detections DESC, rule\nLIMIT 10",
        ),
        rows(
            "Incidents",
            "Newest first. A click on what happened opens the console.",
            f"SELECT last, severity, host_name AS host, sentence, model_id AS model, origin_model AS `from load of`, phase,\n"
            "  count - silenced AS detections, rule_name AS rule, next_step AS `what to do`, key\n"
            f"FROM incidents\nWHERE $__timeFilter(last)\n  AND {INCIDENTS}\nORDER BY last DESC, {_RANK} DESC\nLIMIT 200",
            links={"sentence": incident},
            widths={"last": 170, "severity": 90, "host": 140, "phase": 80, "detections": 100},
            hidden=("key",),
        ),
        rows(
            "Detections",
            "Newest first. A click on what happened opens its explanation in the console.",
            "SELECT time, severity, host_name AS host, sentence, process_chain AS chain, rule_name AS rule,\n"
            f"  arrayStringConcat(attack, ' ') AS attack, detection_id AS id\nFROM detections\n{per}\n"
            "ORDER BY time DESC, id\nLIMIT 200",
            links={"sentence": detection},
            widths={"time": 170, "severity": 90, "host": 140},
            hidden=("id",),
        ),
        ranking(
            "Models with most detections",
            "The model that was loaded, or whose load started what was detected.",
            "SELECT multiIf(model_id != '', model_id, lifecycle_origin_model != '', lifecycle_origin_model, 'not known')\n"
            f"  AS model, count() AS detections\nFROM detections\n{per}\n"
            "GROUP BY model\nORDER BY detections DESC, model\nLIMIT 10",
        ),
        ranking(
            "Hosts with most detections",
            "A click opens the host in the console.",
            f"SELECT host_name AS host, count() AS detections\nFROM detections\n{per}\n"
            "GROUP BY host\nORDER BY detections DESC, host\nLIMIT 10",
            link=_console("Open the host in the console", "/?host=" + _FIELD.format("host")),
        ),
        over_time(
            "Hook to detection",
            "Seconds from the effect in the kernel to the rule that matched. Late ones, after an outage, are left out.",
            "SELECT $__timeInterval(time) AS at,\n"
            "  quantile(0.5)(dateDiff('millisecond', time, detected_at)) / 1000 AS p50,\n"
            "  quantile(0.99)(dateDiff('millisecond', time, detected_at)) / 1000 AS p99\nFROM detections\n"
            f"{per}\n  AND NOT late\nGROUP BY at\nORDER BY at",
            unit="s",
            stacked=False,
            width=8,
        ),
    )


def _hosts() -> tuple[Builder[model.Panel], ...]:
    return (
        over_time(
            "Events by phase",
            "What tracked workloads did, repeats counted, by the phase of the model's life that the kernel saw them in.",
            "SELECT $__timeInterval(time) AS at, lifecycle_phase AS phase, sum(count) AS events\nFROM events\n"
            f"WHERE $__timeFilter(time)\n  AND {OF_HOSTS}\nGROUP BY at, phase\nORDER BY at",
            colours=panels.PHASES,
        ),
        over_time(
            "Losses by host",
            "Gaps that agents reported as events: what happened in them is not known.",
            "SELECT $__timeInterval(time) AS at, host_name AS host, sum(count) AS lost\nFROM events\n"
            f"WHERE $__timeFilter(time)\n  AND event_name = 'loss'\n  AND {OF_HOSTS}\nGROUP BY at, host\nORDER BY at",
        ),
        rows(
            "Hosts",
            "Those that need somebody first: silent, then not watching, then with losses.",
            "SELECT host_name AS host, if(silent, 'silent', if(connected, mode, 'not connected')) AS state, mode_reason AS why,\n"
            "  last_seen, arrayStringConcat(labels, ' ') AS named, agent_version AS agent, kernel_release AS kernel,\n"
            "  tracked_processes AS processes, lost, spool_bytes AS spool, oldest_unacked_age_s AS `oldest unsent (s)`,\n"
            "  arrayStringConcat(problems, '; ') AS problems\n"
            f"FROM hosts\nWHERE {HOSTS}\nORDER BY silent DESC, mode != 'watching' DESC, lost DESC, host\nLIMIT 500",
            links={"host": _console("Open the host in the console", "/?host=" + _FIELD.format("host"))},
            widths={"host": 140, "state": 110, "last_seen": 170},
            numbers=("lost",),
            width=16,
        ),
        rows(
            "Ledger: what was lost, and where",
            "missed: no room in the kernel; ring_dropped: not read in time; evicted: the spool was full; quarantined: set aside.",
            f"SELECT host_name AS host, hop, kind, sum(count) AS lost, max(at) AS `last change`\nFROM ledger\n"
            f"WHERE $__timeFilter(at)\n  AND hop IN {_LOST}\n  AND count > 0\n  AND {OF_HOSTS}\n"
            "GROUP BY host, hop, kind\nORDER BY lost DESC, host\nLIMIT 200",
            numbers=("lost",),
            width=8,
        ),
    )
