"""What a wire row says of each kind of record."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from modelward_agent.enrich.enricher import Enricher
from modelward_agent.sensor.constants import Flag, Phase, Scope, Trigger, Via
from modelward_proto.fields import EVENT_NAMES
from modelward_proto.kinds import Kind

from tests.unit.enriching import enricher, rows
from tests.unit.kernel_records import ROOT, WALL_OFFSET_NS, execd, record

__all__ = ["enricher"]

CHILD = (1001, 150_000_000_000)


def address(text: str) -> Any:
    import numpy as np

    return np.frombuffer(ipaddress.ip_address(text).packed.ljust(16, b"\0"), np.uint8)


def test_exec_row_lacks_what_the_kernel_saw_of_the_program(enricher: Enricher) -> None:
    changed = WALL_OFFSET_NS + 140_000_000_000
    made = record(
        Kind.PROCESS_EXEC,
        b"/usr/bin/dash",
        b"./run.sh",
        b"/bin/sh",
        b"/srv",
        b"sh\0-c\0id; true\0",
        at=200_000_000_000,
        changed_ns=changed,
        args_count=3,
        args_length=16,
        links=1,
        inode=7,
        device=8,
        flags=int(Flag.LEADER | Flag.NEWER_THAN_ROOT | Flag.TMPFS | Flag.STDIO_SOCKET),
        uid=33,
    )
    (row,) = rows(enricher, made)
    assert row["event_name"] == "exec"
    assert row["process_executable_path"] == "/usr/bin/dash"
    assert row["process_executable_asked"] == "./run.sh"
    assert row["process_executable_interpreter"] == "/bin/sh"
    assert row["process_working_directory"] == "/srv"
    assert row["process_command_line"] == "sh -c 'id; true'"
    assert (row["process_args_count"], row["process_args_length"]) == (3, 16)
    assert row["process_executable_age_s"] == pytest.approx(60.0)
    assert row["process_executable_newer_than_root"]
    assert row["process_executable_on_tmpfs"]
    assert not row["process_executable_memfd"]
    assert row["process_stdio_socket"]
    assert row["user_id"] == 33
    assert (row["file_inode"], row["file_device"], row["file_links"], row["file_path"]) == (7, 8, 1, "")


def test_a_canary_does_not_say_whose_test_it_is(enricher: Enricher) -> None:
    line = b"modelward-canary\0" + b"0f3a-1\0"
    (row,) = rows(enricher, record(Kind.HOST_CANARY, b"/usr/bin/true", b"", b"", b"/", line, key=(77, 5), root=(0, 0), group=0))
    assert row["event_name"] == "canary"
    assert row["process_command_line"] == "modelward-canary 0f3a-1"
    assert row["process_executable_path"] == "/usr/bin/true"


def test_interpreter_of_a_binary_is_not_the_name_asked_for(enricher: Enricher) -> None:
    (row,) = rows(enricher, record(Kind.PROCESS_EXEC, b"/usr/bin/curl", b"curl", b"", b"/", b"curl\0"))
    assert row["process_executable_interpreter"] == "curl"


def test_a_program_without_a_time_of_change_has_an_age(enricher: Enricher) -> None:
    (row,) = rows(enricher, execd(b"/bin/sh", b"sh", changed_ns=0))
    assert row["process_executable_age_s"] == 0.0


def test_open_row_lacks_its_file_or_its_process(enricher: Enricher) -> None:
    opened = record(
        Kind.FILE_OPEN,
        b"/etc/shadow",
        b"../etc/shadow",
        at=201_000_000_000,
        inode=131,
        device=8388609,
        links=1,
        open_flags=0o100 | 2,
        access=3,
        count=7,
        tid=1005,
        flags=int(Flag.OUTSIDE_ROOT | Flag.RACED),
    )
    row = rows(enricher, execd(b"/usr/bin/python3.11", b"python", b"-m", b"uvicorn"), opened)[1]
    assert row["event_name"] == "file_open"
    assert (row["file_path"], row["file_path_asked"]) == ("/etc/shadow", "../etc/shadow")
    assert (row["file_inode"], row["file_device"], row["file_links"]) == (131, 8388609, 1)
    assert (row["file_access"], row["file_flags"], row["file_created"]) == ("read_write", 66, True)
    assert row["file_outside_root"]
    assert row["raced"]
    assert row["count"] == 7
    assert (row["process_pid"], row["thread_id"], row["thread_role"]) == (1000, 1005, "worker")
    assert row["process_executable_path"] == "/usr/bin/python3.11"
    assert row["process_command_line"] == "python -m uvicorn"
    assert row["process_executable_asked"] == ""
    assert row["process_args_count"] == 0


def test_time_is_not_boot_time_plus_the_batch_offset(enricher: Enricher) -> None:
    (row,) = rows(enricher, record(Kind.FILE_OPEN, b"/x", at=201_000_000_123))
    assert row["time"].value == WALL_OFFSET_NS + 201_000_000_123


@pytest.mark.parametrize(
    ("family", "raw", "shown"),
    [
        (2, "93.184.216.34", "93.184.216.34"),
        (10, "2001:db8::1", "2001:db8::1"),
        (10, "::ffff:169.254.169.254", "169.254.169.254"),
        (16, "1.2.3.4", ""),
    ],
)
def test_connect_row_shows_the_wrong_address(enricher: Enricher, family: int, raw: str, shown: str) -> None:
    (row,) = rows(
        enricher,
        record(Kind.NET_CONNECT, family=family, address=address(raw), port=443, transport=1, outcome=2),
    )
    assert (row["destination_address"], row["destination_port"]) == (shown, 443)
    assert row["network_transport"] == "tcp"
    assert row["event_outcome"] == "unknown"


def test_unix_connect_row_lacks_the_path(enricher: Enricher) -> None:
    (row,) = rows(enricher, record(Kind.NET_CONNECT, b"/run/docker.sock", family=1, transport=3))
    assert (row["destination_address"], row["network_transport"]) == ("/run/docker.sock", "unix")


def test_first_connect_is_not_told_from_later_ones_or_a_resend_says_otherwise(enricher: Enricher) -> None:
    def connect(at: int, to: str, port: int) -> Any:
        return record(Kind.NET_CONNECT, at=at, family=2, address=address(to), port=port, transport=1)

    made = (
        connect(1, "1.1.1.1", 80),
        connect(2, "1.1.1.1", 80),
        connect(3, "1.1.1.1", 81),
        connect(4, "8.8.8.8", 80),
    )
    first = [row["destination_first_seen"] for row in rows(enricher, *made)]
    assert first == [True, False, True, True]
    assert [row["destination_first_seen"] for row in rows(enricher, *made)] == first
    assert [row["destination_first_seen"] for row in rows(enricher, connect(9, "8.8.8.8", 80))] == [False]


def test_fork_row_is_not_about_the_child(enricher: Enricher) -> None:
    fork = record(Kind.PROCESS_FORK, at=201_000_000_000, child_tgid=1001, child_tid=1001, child_start_ns=CHILD[1])
    row = rows(enricher, execd(b"/usr/bin/python3.11", b"python"), fork)[1]
    assert row["process_entity_id"] == f"2f0c1a2b-1001-{CHILD[1]}"
    assert row["process_pid"] == 1001
    assert row["process_parent_entity_id"] == f"2f0c1a2b-1000-{ROOT[1]}"
    assert row["process_parent_executable_path"] == "/usr/bin/python3.11"
    assert row["process_chain"] == "python3.11 > python3.11"
    assert row["process_entry"] == "child"


def test_exit_row_lacks_code_or_signal(enricher: Enricher) -> None:
    killed = record(Kind.PROCESS_EXIT, exit_code=-1, exit_signal=9)
    ended = record(Kind.PROCESS_EXIT, exit_code=3)
    first, second = rows(enricher, killed, ended)
    assert (first["process_exit_code"], first["process_exit_signal"]) == (-1, 9)
    assert (second["process_exit_code"], second["process_exit_signal"]) == (3, 0)


def test_lifecycle_row_lacks_the_transition_or_the_artifact(enricher: Enricher) -> None:
    (row,) = rows(
        enricher,
        record(
            Kind.LIFECYCLE,
            b"/srv/m.gguf",
            instance=77,
            artifact_inode=5,
            artifact_device=6,
            from_phase=Phase.LOAD,
            to_phase=Phase.WARMUP,
            trigger=Trigger.QUIET,
            scope=Scope.TAIL,
            phase=Phase.LOAD,
        ),
    )
    assert (row["lifecycle_from"], row["lifecycle_phase"], row["lifecycle_trigger"]) == (
        "load",
        "warmup",
        "quiet",
    )
    assert (row["lifecycle_scope"], row["model_instance"]) == ("tail", 77)
    assert (row["file_path"], row["file_inode"], row["file_device"]) == ("/srv/m.gguf", 5, 6)


def test_origin_of_a_task_is_lost(enricher: Enricher) -> None:
    (row,) = rows(
        enricher,
        record(
            Kind.FILE_OPEN,
            b"/x",
            at=210_000_000_000,
            origin_instance=9,
            origin_scope=Scope.OPEN,
            origin_via=Via.FORK,
            origin_time_ns=208_500_000_000,
            phase=Phase.SERVE,
        ),
    )
    assert (row["lifecycle_phase"], row["lifecycle_origin_phase"]) == ("serve", "load")
    assert (row["lifecycle_origin_scope"], row["lifecycle_origin_via"]) == ("open", "fork")
    assert (row["lifecycle_origin_instance"], row["lifecycle_origin_age_s"]) == (9, 1.5)


def test_members_of_another_kind_show_through_the_union(enricher: Enricher) -> None:
    opened = record(
        Kind.FILE_OPEN,
        b"/x",
        inode=2**64 - 1,
        changed_ns=2**64 - 1,
        device=2**32 - 1,
        links=9,
        open_flags=1,
        access=1,
    )
    (row,) = rows(enricher, opened)
    assert (row["destination_address"], row["destination_port"], row["network_transport"]) == ("", 0, "none")
    assert (row["process_exit_code"], row["process_exit_signal"]) == (0, 0)
    assert (row["lifecycle_from"], row["lifecycle_trigger"]) == ("unknown", "none")
    assert row["process_executable_age_s"] == 0.0


def test_losses_are_no_rows_or_not_last(enricher: Enricher) -> None:
    found = rows(
        enricher,
        record(Kind.FILE_OPEN, b"/x"),
        losses=(("ring_dropped", "file_open", 41), ("missed", "all", 1)),
    )
    assert [row["event_name"] for row in found] == ["file_open", "loss", "loss"]
    assert [(row["loss_hop"], row["loss_kind"], row["count"]) for row in found[1:]] == [
        ("ring_dropped", "file_open", 41),
        ("missed", "all", 1),
    ]
    assert found[1]["time"].value == WALL_OFFSET_NS + 300_000_000_000
    assert (found[1]["workload_id"], found[1]["process_entity_id"]) == ("", "")


def test_a_batch_of_losses_alone_cannot_be_enriched(enricher: Enricher) -> None:
    assert [row["loss_hop"] for row in rows(enricher, losses=(("evicted", "file_open", 3),))] == ["evicted"]


def test_an_empty_batch_cannot_be_enriched(enricher: Enricher) -> None:
    assert rows(enricher) == []


def test_rows_are_not_in_order_of_time_across_small_and_large(enricher: Enricher) -> None:
    path = b"/" + b"d" * 300
    found = rows(
        enricher,
        record(Kind.FILE_OPEN, b"/c", at=30),
        record(Kind.FILE_OPEN, b"/a", at=10),
        record(Kind.FILE_OPEN, path, at=20, large=True),
    )
    assert [row["file_path"] for row in found] == ["/a", path.decode(), "/c"]


def test_a_record_of_an_unknown_kind_vanishes(enricher: Enricher) -> None:
    (row,) = rows(enricher, record(999, b"/x", count=5))
    assert (row["event_name"], row["loss_hop"], row["loss_kind"], row["count"]) == (
        "loss",
        "drained",
        "kind_999",
        5,
    )


def test_a_late_batch_is_not_marked(enricher: Enricher) -> None:
    assert [row["late"] for row in rows(enricher, record(Kind.FILE_OPEN, b"/x"), late=True)] == [True]


def test_hostile_text_reaches_the_wire_unescaped(enricher: Enricher) -> None:
    hostile = b"/tmp/<b>\n\x1b[31m\xff\xe2\x80\xae'\"\\"
    clean, row = rows(enricher, record(Kind.FILE_OPEN, b"/plain", at=1), record(Kind.FILE_OPEN, hostile, hostile, at=2))
    shown = "/tmp/<b>\\x0a\\x1b[31m\\xff\\xe2\\x80\\xae'\"\\x5c"
    assert (row["file_path"], row["file_path_asked"]) == (shown, shown)
    assert clean["file_path"] == "/plain"


def test_secrets_in_arguments_leave_the_host(enricher: Enricher) -> None:
    made = execd(
        b"/usr/bin/python3.11",
        b"python",
        b"-m",
        b"vllm.entrypoints.openai.api_server",
        b"--api-key",
        b"hunter2",
    )
    opened = record(Kind.FILE_OPEN, b"/x", at=201_000_000_000)
    for row in rows(enricher, made, opened):
        assert row["process_command_line"].endswith("--api-key '[redacted]'")
        assert row["workload_runtime"] == "vllm"


def test_a_long_command_line_is_repeated_on_every_row_or_cut_on_its_own(enricher: Enricher) -> None:
    argument = b"x" * 3000
    first, second = rows(enricher, execd(b"/bin/echo", b"echo", argument), record(Kind.FILE_OPEN, b"/x", at=201_000_000_000))
    assert first["process_command_line"] == "echo " + argument.decode()
    assert len(second["process_command_line"]) <= 1024
    assert "…" in second["process_command_line"]


def test_kinds_of_the_contract_have_no_row_name() -> None:
    assert {int(kind) for kind in Kind} == set(EVENT_NAMES)
