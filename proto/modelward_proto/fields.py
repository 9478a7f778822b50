"""The one table of fields: record, Arrow, ClickHouse, rule and screen names, with type, values, meaning and example.

Everything that names a column reads it here: the agent's Arrow schema, the collector's DDL, the rule
validator, ``modelward fields`` and the documentation. A name is dotted (OpenTelemetry's where it has one); its column in Arrow
and ClickHouse is the same with underscores (:attr:`modelward_proto.field.Field.column`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from modelward_proto.field import Field, arrow_schema
from modelward_proto.kinds import EVENT_NAMES, HOPS, Kind

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "BINDING_FIELDS",
    "BY_COLUMN",
    "BY_NAME",
    "DESTINATION_CLASSES",
    "DETECTION_FIELDS",
    "EVENT_FIELDS",
    "EVENT_NAMES",
    "EVIDENCE",
    "EXECUTABLE_CLASSES",
    "FILE_CLASSES",
    "HOPS",
    "ORIGIN_VIA",
    "OUTCOMES",
    "PHASES",
    "RESPONSES",
    "ROW_FIELDS",
    "SCHEMA_MIN",
    "SCHEMA_VERSION",
    "SCOPES",
    "SEVERITIES",
    "STORED",
    "TRIGGERS",
    "WIRE_FIELDS",
    "WIRE_SCHEMA",
    "Kind",
    "Response",
    "Severity",
]

SCHEMA_VERSION = 1
"""Version of the Arrow payload. Columns may be added within a version; a changed meaning makes a new one."""

SCHEMA_MIN = 1
"""Oldest payload version that this code reads."""

PHASES = ("unknown", "start", "load", "warmup", "serve", "stop")
"""Index = the number in the kernel record (``enum mw_phase``)."""

SCOPES = ("none", "open", "tail")
"""Index = ``enum mw_scope``. ``none``: outside any load, or the load is closed."""

EVIDENCE = ("observed", "reconstructed", "declared")
"""Index = ``enum mw_evidence``."""

ORIGIN_VIA = ("none", "thread", "fork", "exec")
"""Index = ``enum mw_via``: how the task came out of its origin's scope."""

OUTCOMES = ("success", "failure", "unknown", "attempted")
"""Index = ``enum mw_outcome``."""

TRIGGERS = (
    "none", "exec", "artifact_open", "quiet", "answer", "signal", "exit", "adopted", "unload", "reopened",
    "probe_enter", "probe_return", "inference", "device", "artifact_read", "artifact_map", "declared", "late",
)
"""Index = ``enum mw_trigger``: what made a lifecycle transition. ``probe_*``: a framework's load function; ``device``: a GPU
driver's entry; ``artifact_read``: its first bytes; ``artifact_map``: a known file was mapped; ``late``: recognised afterwards."""

EXECUTABLE_CLASSES = ("none", "shell", "downloader", "network_tool", "interpreter", "compiler", "probe_helper",
                      "package_manager", "privilege", "other")
FILE_CLASSES = ("none", "artifact", "credential", "cloud_credential", "startup_hook", "system_config", "library",
                "python_code", "proc", "device", "gpu_device", "temp", "shm", "runtime_socket", "jit_cache", "other")
DESTINATION_CLASSES = ("none", "loopback", "private", "link_local", "metadata", "multicast", "public", "unix")

Severity = Literal["informational", "low", "medium", "high", "critical"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""Of a rule and its detections, mildest first."""

Response = Literal["observe", "kill", "deny"]
RESPONSES: tuple[Response, ...] = get_args(Response)

_f = Field

EVENT_FIELDS: tuple[Field, ...] = (
    _f("time", "time", "kernel", "when the effect happened, wall clock of the host, from kernel boot time",
       "2026-11-25T07:00:00.000000000Z"),
    _f("event.name", "closed", "kernel", "what happened", "exec", tuple(EVENT_NAMES.values())),
    _f("event.outcome", "closed", "kernel", "whether it took effect; attempted: seen before its result", "success",
       OUTCOMES),
    _f("count", "u64", "kernel", "how many equal effects this row stands for (repeats are counted in the kernel)", 1),
    _f("host.boot_id", "string", "agent", "boot of the host, from the kernel", "2f0c…"),
    _f("workload.id", "string", "agent", "serving application: its container, else its first tracked process",
       "host:2f0c1a2b-1234-55000000"),
    _f("workload.runtime", "string", "agent", "which server it is, as far as known", "uvicorn"),
    _f("workload.runtime_version", "string", "agent", "its version, from the metadata of its package", "0.54.0"),
    _f("workload.gpus", "string", "agent", "GPU device files that its processes hold, by number, joined by commas", "0,1"),
    _f("process.pid", "u32", "kernel", "thread group id in the initial namespace", 4711),
    _f("thread.id", "u32", "kernel", "thread that did it", 4712),
    _f("thread.role", "closed", "kernel", "main: thread group leader; worker: any other", "main", ("main", "worker")),
    _f("process.entity_id", "string", "kernel",
       "process key: boot, pid, start time; survives exec and pid reuse", "2f0c1a2b-4711-55000000"),
    _f("process.parent.pid", "u32", "kernel", "real parent's thread group id", 4700),
    _f("process.parent.entity_id", "string", "kernel", "parent's process key", "2f0c1a2b-4700-54000000"),
    _f("process.parent.executable.path", "string", "agent", "parent's program at that time", "/usr/bin/python3.11"),
    _f("process.root_id", "string", "kernel", "process key of the workload's first tracked process",
       "2f0c1a2b-4700-54000000"),
    _f("process.chain", "string", "agent", "programs from the workload's root to this process, joined by ' > '",
       "python3.11 > sh > curl"),
    _f("process.entry", "closed", "agent",
       "how it came into the workload: server, entered (exec'd in from outside), reader (only reads an artifact), child",
       "server", ("server", "entered", "reader", "child")),
    _f("process.executable.path", "string", "kernel", "resolved program file", "/usr/bin/dash"),
    _f("process.executable.asked", "string", "kernel", "exec only: the name given to execve", "/bin/sh"),
    _f("process.executable.interpreter", "string", "kernel", "exec only: interpreter of a script, else the same",
       "/usr/bin/python3.11"),
    _f("process.executable.class", "closed", "collector", "what sort of program it is", "shell", EXECUTABLE_CLASSES),
    _f("process.executable.age_s", "f64", "kernel",
       "exec only: seconds since the program file was last changed (max of ctime and mtime)", 86400.0),
    _f("process.executable.newer_than_root", "bool", "kernel",
       "exec only: the program file was changed after the workload's first process started", False),
    _f("process.executable.on_tmpfs", "bool", "kernel", "exec only: program lies on tmpfs or in a memfd", False),
    _f("process.executable.memfd", "bool", "kernel", "exec only: program lies in a memfd or is unlinked", False),
    _f("process.stdio_socket", "bool", "kernel", "exec only: standard input or output is a network socket", False),
    _f("process.command_line", "string", "kernel", "arguments, quoted reversibly, secrets redacted", "sh -c 'id'"),
    _f("process.args_count", "u32", "kernel", "exec only: number of arguments", 3),
    _f("process.args_length", "u32", "kernel", "exec only: bytes of all arguments before truncation", 40),
    _f("process.working_directory", "string", "kernel", "exec only", "/srv"),
    _f("process.exit.code", "i32", "kernel", "exit only: exit status, -1 when killed by a signal", 0),
    _f("process.exit.signal", "u8", "kernel", "exit only: signal that killed it, else 0", 9),
    _f("user.id", "u32", "kernel", "effective user id in the initial namespace", 1000),
    _f("file.path", "string", "kernel", "resolved path, across mounts, in the initial namespace's view",
       "/srv/model.gguf"),
    _f("file.path_asked", "string", "kernel", "path as the process gave it; empty when equal to file.path",
       "model.gguf"),
    _f("file.inode", "u64", "kernel", "", 131),
    _f("file.device", "u32", "kernel", "kernel's s_dev: major << 20 | minor", 8388609),
    _f("file.links", "u32", "kernel", "link count; 0: unlinked", 1),
    _f("file.access", "closed", "kernel", "access mode of the open", "read", ("none", "read", "write", "read_write")),
    _f("file.flags", "u32", "kernel", "open(2) flags", 0),
    _f("file.created", "bool", "kernel", "opened with O_CREAT", False),
    _f("file.class", "closed", "collector", "what sort of file it is", "credential", FILE_CLASSES),
    _f("file.in_model_dir", "bool", "agent", "lies in a folder from which the workload loaded a model", False),
    _f("file.outside_root", "bool", "kernel", "lies outside the process's root folder", False),
    _f("destination.address", "string", "kernel", "IPv4, IPv6 or unix path", "93.184.216.34"),
    _f("destination.port", "u16", "kernel", "", 443),
    _f("destination.class", "closed", "collector", "what sort of address it is", "public", DESTINATION_CLASSES),
    _f("destination.first_seen", "bool", "agent",
       "first connect of this workload to this address and port since the agent began", True),
    _f("network.transport", "closed", "kernel", "", "tcp", ("none", "tcp", "udp", "unix", "other")),
    _f("model.instance", "u64", "kernel", "one load of one model in one process; 0: none known", 7),
    _f("model.id", "string", "agent", "name of the model", "tiny-llama"),
    _f("model.revision", "string", "agent", "", "9d3e…"),
    _f("model.digest", "string", "agent", "sha256; of several files that of their sorted digests joined by line feeds; hex",
       "9f86d0…"),
    _f("model.format", "string", "agent", "", "gguf"),
    _f("model.source", "string", "agent", "hf_cache, ollama, triton, folder, file", "file"),
    _f("model.architecture", "string", "agent", "what the artifact says of its kind of network", "llama"),
    _f("model.quantization", "string", "agent", "how its numbers are stored, where the format says so", "Q4_K_M"),
    _f("model.base", "string", "agent", "adapters: the model they are made for, as they or their load name it", "org/base"),
    _f("model.path", "string", "agent", "artifact that identified the model", "/srv/model.gguf"),
    _f("lifecycle.phase", "closed", "kernel", "phase of the task at that moment", "load", PHASES),
    _f("lifecycle.scope", "closed", "kernel", "whether the task is inside a load: open, tail (100 ms quiet), none",
       "open", SCOPES),
    _f("lifecycle.evidence", "closed", "kernel", "why phase and model are believed", "observed", EVIDENCE),
    _f("lifecycle.origin.phase", "closed", "kernel", "load: created inside a load scope (or by such a task); else none",
       "load", ("none", "load")),
    _f("lifecycle.origin.scope", "closed", "kernel", "scope in which the task was created", "open", SCOPES),
    _f("lifecycle.origin.via", "closed", "kernel", "how the task came out of that scope", "fork", ORIGIN_VIA),
    _f("lifecycle.origin.instance", "u64", "kernel", "model instance of that scope; 0: none", 7),
    _f("lifecycle.origin.model", "string", "agent", "model.id of that instance, bound late", "poisoned"),
    _f("lifecycle.origin.age_s", "f64", "kernel", "seconds between leaving the scope and this event", 1.5),
    _f("lifecycle.from", "closed", "kernel", "lifecycle only: phase before", "load", PHASES),
    _f("lifecycle.trigger", "closed", "kernel", "lifecycle only: what made the transition", "quiet", TRIGGERS),
    _f("lifecycle.detail", "string", "kernel", "lifecycle only: function of a probe, or what a process declared",
       "llama_model_load_from_file"),
    _f("container.id", "string", "agent", "", "4f1d…"),
    _f("k8s.pod.uid", "string", "agent", "", ""),
    _f("truncated", "bool", "kernel", "a text of this event was longer than its record holds", False),
    _f("raced", "bool", "kernel", "asked path and opened file disagree: another thread may have swapped the fd", False),
    _f("late", "bool", "agent", "spooled while no collector was reachable", False),
    _f("loss.hop", "string", "agent", "loss only: hop of the ledger at which events were lost", "ring_dropped"),
    _f("loss.kind", "string", "agent", "loss only: event name of what was lost, or all", "file_open"),
)
"""Fields of one event as the wire and the rules see it, in column order."""

ROW_FIELDS: tuple[Field, ...] = (
    _f("host.name", "string", "collector", "from the agent's certificate", "gpu-17"),
    _f("agent.id", "string", "collector", "hex, 32 digits", "00…"),
    _f("epoch", "string", "collector", "hex, 32 digits: one life of a spool folder", "00…"),
    _f("batch", "u64", "collector", "number of the batch within its epoch", 12),
    _f("row", "u32", "collector", "number of the row within its batch", 3),
    _f("batch.time", "time", "collector", "wall clock of the agent when it closed the batch",
       "2026-11-25T07:00:00.000000000Z"),
)
"""What the collector adds: the row's name and its host."""

STORED: tuple[Field, ...] = ROW_FIELDS + EVENT_FIELDS
"""Columns of ``events_raw``. The model.* columns there are filled only in ``model_identity`` rows; the view ``events``
fills them for all rows from the bindings."""

BINDING_FIELDS: tuple[Field, ...] = tuple(
    f for f in STORED
    if f.name in {"host.name", "agent.id", "epoch", "model.instance", "time", "host.boot_id", "workload.id", "workload.runtime",
                  "workload.runtime_version", "process.pid"}
    or (f.name.startswith("model.") and f.name != "model.instance")
)
"""Columns of ``bindings``: instance to identity, and whose load it was."""

DETECTION_FIELDS: tuple[Field, ...] = (
    _f("detection.id", "string", "collector", "made of rule, version, last row's name and group key: a repeat is the same",
       "a1b2…"),
    _f("time", "time", "collector", "time of the event that completed the match", ""),
    _f("detected_at", "time", "collector", "when the receiver judged it", ""),
    _f("rule.id", "string", "collector", "", "5f9c…"),
    _f("rule.name", "string", "collector", "file name of the rule without ending", "shell_in_load"),
    _f("rule.title", "string", "collector", "", "Shell or downloader started by a model load"),
    _f("rule.version", "string", "collector", "first 12 hex digits of the rule file's sha256", "0123456789ab"),
    _f("severity", "closed", "collector", "", "high", SEVERITIES),
    _f("response", "closed", "collector", "", "observe", RESPONSES),
    _f("sentence", "string", "collector", "what happened, in one sentence, with names filled in", ""),
    _f("reason", "string", "collector", "why that is wrong", ""),
    _f("next_step", "string", "collector", "what to do now", ""),
    _f("attack", "strings", "collector", "MITRE ids (ATT&CK Txxxx, ATLAS AML.Txxxx)", "T1059"),
    _f("group.key", "string", "collector", "workload, rule, origin instance and root process: what belongs together", ""),
    _f("host.name", "string", "collector", "", "gpu-17"),
    _f("agent.id", "string", "collector", "", ""),
    _f("workload.id", "string", "collector", "", ""),
    _f("workload.runtime", "string", "collector", "", ""),
    _f("event.name", "string", "collector", "", "exec"),
    _f("process.pid", "u32", "collector", "", 1),
    _f("process.entity_id", "string", "collector", "", ""),
    _f("process.root_id", "string", "collector", "", ""),
    _f("process.chain", "string", "collector", "", ""),
    _f("process.executable.path", "string", "collector", "", ""),
    _f("process.command_line", "string", "collector", "", ""),
    _f("file.path", "string", "collector", "", ""),
    _f("destination.address", "string", "collector", "", ""),
    _f("destination.port", "u16", "collector", "", 0),
    _f("lifecycle.phase", "string", "collector", "", "load"),
    _f("lifecycle.scope", "string", "collector", "", "open"),
    _f("lifecycle.origin.phase", "string", "collector", "", "load"),
    _f("lifecycle.origin.instance", "u64", "collector", "", 0),
    _f("lifecycle.evidence", "string", "collector", "", "observed"),
    _f("model.instance", "u64", "collector", "", 0),
    _f("late", "bool", "collector", "the event came after an outage", False),
    _f("events", "strings", "collector", "names of the rows that matched: agent/epoch/batch/row", ""),
)
"""Columns of ``detections``."""

BY_NAME: dict[str, Field] = {f.name: f for f in STORED}
BY_COLUMN: dict[str, Field] = {f.column: f for f in STORED}

WIRE_FIELDS: tuple[Field, ...] = tuple(f for f in EVENT_FIELDS if f.by != "collector")
"""What an agent sends: the event fields that the collector does not compute itself."""

if TYPE_CHECKING:
    WIRE_SCHEMA: pa.Schema
else:

    def __getattr__(name: str) -> pa.Schema:
        """``WIRE_SCHEMA`` is made when it is first wanted: the command only names fields, and starts sooner without Arrow."""
        if name != "WIRE_SCHEMA":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals().setdefault(name, arrow_schema(WIRE_FIELDS))
