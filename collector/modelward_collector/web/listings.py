"""The lists of the API: what each shows, in which order, and the filters it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from modelward_proto.fields import EVENT_NAMES, PHASES, SEVERITIES

from modelward_collector.store.ddl.views import SEVERITY_RANK
from modelward_collector.web.filters import (
    Filter,
    at_least,
    by_ids,
    by_time,
    equal,
    has,
    labelled,
    named_model,
    of_loads,
    of_model,
    of_process,
    one_of,
    rows_by_name,
    silenced,
    text,
)


@dataclass(frozen=True, slots=True)
class Listing:
    """One list of the API."""

    select: str
    order: str
    filters: Mapping[str, Filter]
    default_limit: int = 100
    default_since: str = ""
    steps: tuple[str, ...] = ()
    """Spans to look at first, shortest first: the newest rows are wanted, and most often these hold enough of them."""
    selective: frozenset[str] = frozenset()
    """Filters that leave few rows to look at: with these there are no shorter spans first."""


LISTINGS: dict[str, Listing] = {
    "detections": Listing(
        "SELECT * FROM detections",
        "time DESC, detection_id",
        {
            "since": by_time("time", "since", ">="),
            "until": by_time("time", "until", "<"),
            "host": equal("host_name", "host"),
            "severity": one_of("severity", "severity", SEVERITIES),
            "min_severity": at_least,
            "rule": equal("rule_name", "rule"),
            "workload": equal("workload_id", "workload"),
            "model": of_model("model_id", "lifecycle_origin_model", "model_digest"),
            "ids": by_ids,
            "label": labelled("has(host_labels, {label:String})"),
            "silenced": silenced("silenced_by != ''"),
            "phase": one_of("lifecycle_phase", "phase", PHASES),
            "process": of_process,
            "event": one_of("event_name", "event", tuple(EVENT_NAMES.values())),
            "q": text(
                "sentence",
                "rule_title",
                "process_chain",
                "process_command_line",
                "model_id",
                "host_name",
                "workload_id",
            ),
        },
    ),
    "incidents": Listing(
        "SELECT * FROM incidents",
        f"last DESC, {SEVERITY_RANK} DESC, key",
        {
            "since": by_time("last", "since", ">="),
            "until": by_time("first", "until", "<"),
            "host": equal("host_name", "host"),
            "severity": one_of("severity", "severity", SEVERITIES),
            "min_severity": at_least,
            "rule": equal("rule_name", "rule"),
            "workload": equal("workload_id", "workload"),
            "model": of_model("model_id", "origin_model"),
            "key": equal("key", "key"),
            "id": has("detection_ids", "id"),
            "label": labelled("has(host_labels, {label:String})"),
            "silenced": silenced("all_silenced"),
            "q": text(
                "sentence",
                "rule_title",
                "rule_name",
                "chain",
                "model_id",
                "origin_model",
                "host_name",
                "workload_id",
            ),
        },
        steps=("24h", "30d"),
        selective=frozenset({"key", "id", "host", "model"}),
    ),
    "events": Listing(
        "SELECT * FROM events",
        "time DESC, batch DESC, row DESC",
        {
            "since": by_time("time", "since", ">="),
            "until": by_time("time", "until", "<"),
            "host": equal("host_name", "host"),
            "event": one_of("event_name", "event", tuple(EVENT_NAMES.values())),
            "process": of_process,
            "model": of_loads,
            "workload": equal("workload_id", "workload"),
            "phase": one_of("lifecycle_phase", "phase", PHASES),
            "names": rows_by_name,
            "label": labelled("host_name IN (SELECT host_name FROM hosts WHERE has(labels, {label:String}))"),
            "q": text(
                "process_command_line",
                "process_executable_path",
                "file_path",
                "destination_address",
                "process_chain",
                threads=2,
            ),
        },
        default_since="24h",
        steps=("1h", "24h"),
        selective=frozenset({"names"}),
    ),
    "hosts": Listing(
        "SELECT * FROM hosts",
        "silent DESC, lost > 0 DESC, host_name",
        {
            "host": equal("host_name", "host"),
            "since": by_time("last_seen", "since", ">="),
            "label": labelled("has(labels, {label:String})"),
        },
        default_limit=500,
    ),
    "models": Listing(
        "SELECT * FROM models",
        "last_loaded DESC, model_id",
        {
            "model": named_model("model_id", "digest"),
            "since": by_time("last_loaded", "since", ">="),
            "q": text("model_id", "digest", "path", "source"),
        },
    ),
    "loads": Listing(
        "",
        "loaded_now > 0 DESC, last_loaded DESC, host_name, workload_id",
        {
            "model": named_model("model_id", "digest"),
            "host": equal("host_name", "host"),
        },
    ),
    "exceptions": Listing(
        "SELECT * FROM exceptions",
        "active DESC, created DESC, id",
        {
            "host": equal("host_name", "host"),
            "rule": equal("rule_name", "rule"),
            "id": equal("id", "id"),
            "active": one_of("toString(active)", "active", ("true", "false")),
        },
        default_limit=500,
    ),
    "ledger": Listing(
        "SELECT * FROM ledger",
        "host_name, agent_id, kind, hop",
        {"host": equal("host_name", "host"), "since": by_time("at", "since", ">=")},
        default_limit=1000,
    ),
}
