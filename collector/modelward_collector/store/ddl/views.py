"""The names that people query: views over the raw tables, and the dictionary that binds an instance to its model.

Views hold no data, so they are made anew at each start rather than migrated. An identity that comes late is a row in
``bindings``: the dictionary is loaded again and every event of that instance shows its model at once, nothing is rewritten.
"""

from __future__ import annotations

from modelward_proto.fields import BINDING_FIELDS, DETECTION_FIELDS, SEVERITIES, STORED

MODELS = "modelward.model_by_instance"
LABELS = "modelward.labels_by_host"
EXCEPTIONS = "modelward.exception_by_match"
DICTIONARIES = (MODELS, LABELS, EXCEPTIONS)

NONE = "''"

SEVERITY_RANK = f"indexOf({list(SEVERITIES)}, toString(severity))"

INCIDENT_GAP_S = 600
"""Detections of one group further apart than this are two incidents."""

MODEL_FIELDS = tuple(f for f in BINDING_FIELDS if f.name.startswith("model.") and f.name != "model.instance")
_BOUND = frozenset(f.column for f in MODEL_FIELDS)


def _bound(column: str, instance: str, otherwise: str) -> str:
    return f"dictGetOrDefault('{MODELS}', '{column}', (r.host_name, r.{instance}), {otherwise})"


def statements(silent_after_s: int) -> list[str]:
    """All statements, in an order in which each finds what it needs."""
    return [*_last_transitions(), _model_by_instance(), _labels_by_host(), _exception_by_match(), _events(), _detections(),
            f"CREATE OR REPLACE VIEW modelward.incidents AS {incidents()}", _models(silent_after_s),
            _hosts(silent_after_s), _ledger(), _exceptions(), _outputs()]


def _model_by_instance() -> str:
    attributes = ", ".join(f"{f.column} String" for f in MODEL_FIELDS)
    named = ", ".join(f.column for f in MODEL_FIELDS)
    return f"""CREATE OR REPLACE DICTIONARY {MODELS} (host_name String, model_instance UInt64, {attributes})
PRIMARY KEY host_name, model_instance
SOURCE(CLICKHOUSE(QUERY 'SELECT host_name, model_instance, {named} FROM modelward.bindings FINAL'))
LAYOUT(COMPLEX_KEY_HASHED_ARRAY()) LIFETIME(0)"""


def _labels_by_host() -> str:
    return f"""CREATE OR REPLACE DICTIONARY {LABELS} (host_name String, labels Array(String))
PRIMARY KEY host_name
SOURCE(CLICKHOUSE(QUERY 'SELECT host_name, argMax(labels, last_seen) FROM modelward.hosts_raw FINAL GROUP BY host_name'))
LAYOUT(COMPLEX_KEY_HASHED()) LIFETIME(0)"""


def _exception_by_match() -> str:
    """Of exceptions that match the same, the one that lasts longest."""
    match = "rule_name, executable_path, model_digest, host_name"
    return f"""CREATE OR REPLACE DICTIONARY {EXCEPTIONS} (rule_name String, executable_path String, model_digest String,
    host_name String, id String, until DateTime64(9, 'UTC'))
PRIMARY KEY {match}
SOURCE(CLICKHOUSE(QUERY 'SELECT {match}, argMax(id, (expires, id)), max(expires) FROM modelward.exceptions_raw FINAL
    WHERE NOT revoked GROUP BY {match}'))
LAYOUT(COMPLEX_KEY_HASHED()) LIFETIME(0)"""


def _events() -> str:
    shown: list[str] = []
    for f in STORED:
        if f.column in _BOUND:
            shown.append(f"{_bound(f.column, 'model_instance', 'r.' + f.column)} AS {f.column}")
        elif f.name == "lifecycle.origin.model":
            shown.append(f"{_bound('model_id', 'lifecycle_origin_instance', 'r.lifecycle_origin_model')} AS {f.column}")
        else:
            shown.append(f"r.{f.column} AS {f.column}")
    return f"CREATE OR REPLACE VIEW modelward.events AS SELECT {', '.join(shown)} FROM modelward.events_raw AS r"


def _detections() -> str:
    shown = [f"r.{f.column} AS {f.column}" for f in DETECTION_FIELDS]
    shown += [f"{_bound(f.column, 'model_instance', NONE)} AS {f.column}" for f in MODEL_FIELDS]
    shown.append(f"{_bound('model_id', 'lifecycle_origin_instance', NONE)} AS lifecycle_origin_model")
    shown.append("r.stored_at AS stored_at")
    shown.append(f"dictGet('{LABELS}', 'labels', tuple(toString(r.host_name))) AS host_labels")
    shown.append("multiIf(r.time < here.2, here.1, r.time < everywhere.2, everywhere.1, '') AS silenced_by")

    def exception(host: str) -> str:
        never = "('', toDateTime64(0, 9, 'UTC'))"
        return (f"dictGetOrDefault('{EXCEPTIONS}', ('id', 'until'), "
                f"(r.rule_name, r.process_executable_path, digest, {host}), {never})")

    # The model may be bound after the detection: a silenced one is found at each look, and never marked. A load of its own that
    # is not identified is not taken for its origin's: it may be any file that an allowed model opened.
    own, origin = (_bound("model_digest", instance, NONE) for instance in ("model_instance", "lifecycle_origin_instance"))
    return f"""CREATE OR REPLACE VIEW modelward.detections AS
WITH if(r.model_instance != 0, {own}, {origin}) AS digest,
    {exception("toString(r.host_name)")} AS here, {exception(NONE)} AS everywhere
SELECT {', '.join(shown)} FROM modelward.detections_raw AS r"""


def incidents(condition: str = "1") -> str:
    """The SELECT of the view, over those detections that meet a condition.

    The view looks at every detection there is. A list that shows few should narrow it to whole groups (``group_key`` and
    ``host_name``), or the incidents that it shows would lack detections.
    """
    order = "PARTITION BY group_key, host_name ORDER BY time, detection_id"
    # One aggregate of a tuple copies less than one of each column. Names of columns are said with their table, as aggregates
    # have the same.
    return f"""SELECT
    concat(d.group_key, '@', toString(toUnixTimestamp64Milli(min(d.time)))) AS key,
    d.host_name AS host_name,
    (argMax((d.workload_id, d.workload_runtime, d.rule_name, d.rule_title, d.lifecycle_origin_instance, d.process_root_id,
        d.lifecycle_phase), d.time) AS latest).1 AS workload_id,
    latest.2 AS workload_runtime, latest.3 AS rule_name, latest.4 AS rule_title,
    argMax(d.severity, (d.speaks, d.rank, d.time)) AS severity,
    count() AS count,
    countIf(d.silenced_by != '') AS silenced,
    (silenced = count())::Bool AS all_silenced,
    min(d.time) AS first,
    max(d.time) AS last,
    (argMax((d.sentence, d.process_chain, d.next_step, d.reason, d.attack), (d.speaks, d.rank, d.time)) AS worst).1 AS sentence,
    worst.2 AS chain, worst.3 AS next_step, worst.4 AS reason,
    argMax(d.model_id, (d.model_id != '', d.time)) AS model_id,
    argMax(d.lifecycle_origin_model, (d.lifecycle_origin_model != '', d.time)) AS origin_model,
    latest.5 AS origin_instance, latest.6 AS root_id, latest.7 AS phase, worst.5 AS attack,
    max(d.late) AS late,
    any(d.host_labels) AS host_labels,
    arrayMap(x -> x.2, arraySlice(arrayReverseSort(groupArray(1000)((d.time, d.detection_id))), 1, 50)) AS detection_ids
FROM (
    SELECT *, {SEVERITY_RANK} AS rank, silenced_by = '' AS speaks,
        sum(opens) OVER ({order} ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS part
    FROM (
        SELECT *, dateDiff('second', lagInFrame(time, 1, toDateTime64(0, 9, 'UTC')) OVER (
            {order} ROWS BETWEEN 1 PRECEDING AND CURRENT ROW), time) >= {INCIDENT_GAP_S} AS opens
        FROM modelward.detections WHERE {condition}
    )
) AS d
GROUP BY d.group_key, d.host_name, d.part"""


_PHASE_CODES = "['start', 'load', 'warmup', 'serve', 'stop', 'unknown']"
_OVER = 8
"""Added to the code of a phase by a transition that ends the load."""


def _last_transitions() -> list[str]:
    """What feeds ``loads_raw`` and ``exits_raw`` from the events that are stored, and fills them.

    A crash may leave out rows of the last moments, so those of the last day come in again at each start: of equal rows one stays.
    All of them come in when the tables are empty, as at the first start of this version.
    """
    load = f"toUInt8(indexOf({_PHASE_CODES}, lifecycle_phase) + {_OVER} * ({_ENDS}))"
    sources = {
        "loads_raw": f"""SELECT host_name, model_instance, time, {load} AS step FROM modelward.events_raw
            WHERE event_name = 'lifecycle' AND model_instance != 0 AND NOT ({_STAYS})""",
        "exits_raw": "SELECT host_name, process_pid, time FROM modelward.events_raw WHERE event_name = 'exit'",
    }
    made: list[str] = []
    for table, select in sources.items():
        fill = f"INSERT INTO modelward.{table} SETTINGS async_insert = 0, max_threads = 1 {select}"
        made += [
            f"DROP VIEW IF EXISTS modelward.{table}_feed",
            f"{fill} AND (SELECT count() FROM modelward.{table}) = 0",
            f"{fill} AND batch_time > now64(9, 'UTC') - INTERVAL 1 DAY",
            f"CREATE MATERIALIZED VIEW modelward.{table}_feed TO modelward.{table} AS {select}",
        ]
    return made


_ENDS = "lifecycle_trigger = 'unload' OR event_outcome = 'failure' OR lifecycle_phase = 'stop'"
"""Of a transition: the load is over."""

_STAYS = "lifecycle_trigger = 'device' OR (lifecycle_trigger = 'declared' AND event_outcome = 'failure')"
"""Of a transition: it is none, the phase stays; what was declared was refused."""


def loads(silent: str, of: str = "1") -> str:
    """The SELECT of one row for each load of a model: ``host``, ``model`` (both hashes, which cost a third of texts),
    ``model_instance``, when it ``changed`` last, its ``phase`` and its ``state``: ``loaded``, ``ended``, ``unknown`` while its
    host says nothing, or empty when none of its transitions is known.

    A load is over when its last transition says so, when its process has exited since (or one with the same number, which can
    only be after it), or when the host was started again. ``silent``: aggregate that tells of a host's rows in ``hosts_raw``
    whether it is silent. ``of``: a condition on bindings.
    """
    return f"""SELECT
    b.host AS host, b.model AS model, b.model_instance AS model_instance, l.at AS changed,
    multiIf(l.code = 0, '', l.code >= {_OVER} OR x.at >= l.at OR (b.boot_known AND h.known AND b.boot != h.boot), 'ended',
        h.silent, 'unknown', 'loaded') AS state,
    multiIf(state = 'ended', '', state != 'loaded', 'unknown', {_PHASE_CODES}[l.code]) AS phase
FROM (
    SELECT sipHash64(host_name) AS host, model_instance, sipHash64(model_id, model_digest) AS model, process_pid,
        sipHash64(host_boot_id) AS boot, host_boot_id != '' AS boot_known
    FROM modelward.bindings FINAL WHERE {of}
) AS b
LEFT JOIN (
    SELECT sipHash64(host_name) AS host, model_instance, argMax(step, time) AS code, max(time) AS at FROM modelward.loads_raw
    WHERE {'1' if of == '1' else f'model_instance IN (SELECT model_instance FROM modelward.bindings WHERE {of})'}
    GROUP BY host, model_instance
) AS l ON l.host = b.host AND l.model_instance = b.model_instance
LEFT JOIN (
    SELECT sipHash64(host_name) AS host, process_pid, max(time) AS at FROM modelward.exits_raw
    WHERE process_pid IN (SELECT process_pid FROM modelward.bindings WHERE {of})
    GROUP BY host, process_pid
) AS x ON x.host = b.host AND x.process_pid = b.process_pid
LEFT JOIN (
    SELECT sipHash64(host_name) AS host, sipHash64(argMax(boot_id, updated)) AS boot, argMax(boot_id, updated) != '' AS known,
        {silent} AS silent
    FROM modelward.hosts_raw FINAL GROUP BY host_name
) AS h ON h.host = b.host"""


def _models(silent_after_s: int) -> str:
    """``phase``, ``since``: of the load that changed last among those that are not over."""
    told = ("format", "source", "path", "revision", "architecture", "quantization", "base")
    named = ", ".join(f"model_{name}" for name in told)
    runtime = "trimRight(concat(workload_runtime, ' ', workload_runtime_version))"
    return f"""CREATE OR REPLACE VIEW modelward.models AS
SELECT
    b.model_id AS model_id, b.model_digest AS digest, {", ".join(f"b.told.{n} AS {name}" for n, name in enumerate(told, 1))},
    b.instances AS instances, b.hosts AS hosts, b.first_loaded AS first_loaded, b.last_loaded AS last_loaded,
    p.loaded AS loaded_now, p.unknown AS loaded_unknown, p.latest.1 AS phase,
    if(p.told, p.latest.2, b.last_loaded) AS since,
    b.runtimes AS runtimes, b.host_names AS host_names, b.workloads AS workloads
FROM (
    SELECT model_id, model_digest, argMax(({named}), time) AS told, count() AS instances, uniqExact(host_name) AS hosts,
        min(time) AS first_loaded, max(time) AS last_loaded,
        arraySort(groupUniqArrayIf(20)({runtime}, workload_runtime != '')) AS runtimes,
        arraySort(groupUniqArray(20)(toString(host_name))) AS host_names, groupUniqArray(20)(workload_id) AS workloads
    FROM modelward.bindings FINAL GROUP BY model_id, model_digest
) AS b
LEFT JOIN (
    SELECT model, countIf(state = 'loaded') AS loaded, countIf(state = 'unknown') AS unknown, max(state != '') AS told,
        argMax((phase, changed), (state IN ('loaded', 'unknown'), state != '', changed)) AS latest
    FROM ({loads(f'max(last_seen) < now64(3) - INTERVAL {silent_after_s} SECOND')}) GROUP BY model
) AS p ON p.model = sipHash64(b.model_id, b.model_digest)"""


def _hosts(silent_after_s: int) -> str:
    def total(hop: str, name: str = "") -> str:
        return f"sumIf(count, hop = '{hop}') AS {name or hop}"

    lost = "sumIf(count, hop IN ('missed', 'ring_dropped', 'evicted', 'quarantined')) AS lost"
    return f"""CREATE OR REPLACE VIEW modelward.hosts AS
SELECT
    h.host_name AS host_name, h.agent_id AS agent_id, h.agent_version AS agent_version,
    h.kernel_release AS kernel_release, h.boot_id AS boot_id, h.labels AS labels,
    h.first_seen AS first_seen, h.last_seen AS last_seen,
    (h.connected AND NOT silent)::Bool AS connected,
    (h.last_seen < now64(3) - INTERVAL {silent_after_s} SECOND)::Bool AS silent,
    h.mode AS mode, h.mode_reason AS mode_reason,
    l.seen AS seen, l.received AS received, l.stored AS stored, l.lost AS lost,
    h.problems AS problems, h.doors AS doors, h.spool_bytes AS spool_bytes, h.spool_limit_bytes AS spool_limit_bytes,
    h.tracked_processes AS tracked_processes, h.uptime_s AS uptime_s, h.oldest_unacked_age_s AS oldest_unacked_age_s
FROM (SELECT * FROM modelward.hosts_raw FINAL) AS h
LEFT JOIN (
    SELECT host_name, agent_id, {total('seen')}, {total('received')}, {total('stored')}, {lost}
    FROM modelward.ledger_raw FINAL GROUP BY host_name, agent_id
) AS l ON l.host_name = h.host_name AND l.agent_id = h.agent_id"""


def _ledger() -> str:
    return """CREATE OR REPLACE VIEW modelward.ledger AS
SELECT host_name, agent_id, epoch, hop, kind, count, at FROM modelward.ledger_raw FINAL"""


def _exceptions() -> str:
    return """CREATE OR REPLACE VIEW modelward.exceptions AS
SELECT
    e.id AS id, e.rule_name AS rule_name, e.model_digest AS model_digest, e.executable_path AS executable_path,
    e.host_name AS host_name, e.reason AS reason, e.author AS author, e.created AS created, e.expires AS expires,
    e.revoked AS revoked, e.revoked_by AS revoked_by, e.changed AS changed,
    (NOT e.revoked AND e.expires > now64(9, 'UTC'))::Bool AS active,
    d.hits AS hits, d.last_hit AS last_hit
FROM (SELECT * FROM modelward.exceptions_raw FINAL) AS e
LEFT JOIN (
    SELECT silenced_by, count() AS hits, max(time) AS last_hit FROM modelward.detections
    WHERE silenced_by != '' GROUP BY silenced_by
) AS d ON d.silenced_by = e.id"""


def _outputs() -> str:
    """``behind`` counts by time alone: detections that this version stored have each a time of their own."""
    return """CREATE OR REPLACE VIEW modelward.outputs AS
SELECT
    o.output AS output, o.stored_at AS stored_at, o.detection_id AS detection_id, o.at AS at,
    countIf(d.stored_at > o.stored_at) AS behind
FROM (SELECT * FROM modelward.outputs_raw FINAL) AS o
CROSS JOIN (
    SELECT stored_at FROM modelward.detections_raw
    WHERE stored_at > (SELECT min(stored_at) FROM modelward.outputs_raw FINAL)
    UNION ALL SELECT toDateTime64(0, 9, 'UTC')
) AS d
GROUP BY output, stored_at, detection_id, at"""
