"""Programs and ancestry: whose row it is, as of its time."""

from __future__ import annotations

from typing import Any

import numpy as np
from modelward_agent.enrich.enricher import Enricher
from modelward_agent.enrich.process_table import NO_KEY, Process, ProcessTable, Program
from modelward_agent.sensor.constants import Flag, Trigger
from modelward_proto.kinds import Kind

from tests.unit.enriching import enricher, rows
from tests.unit.kernel_records import ROOT, batch, execd, record

__all__ = ["enricher"]

SHELL = (1001, 210_000_000_000)
CURL = (1002, 220_000_000_000)


def fork(parent: tuple[int, int], child: tuple[int, int], at: int, grandparent: tuple[int, int] = (1, 1)) -> Any:
    return record(
        Kind.PROCESS_FORK,
        key=parent,
        parent=grandparent,
        at=at,
        child_tgid=child[0],
        child_tid=child[0],
        child_start_ns=child[1],
    )


def server() -> Any:
    flags = int(Flag.LEADER | Flag.ROOT | Flag.SERVER)
    return execd(b"/usr/bin/python3.11", b"python", b"app.py", at=200_000_000_000, flags=flags)


def test_chain_changes_before_an_exec_or_not_after_it(enricher: Enricher) -> None:
    found = rows(
        enricher,
        server(),
        fork(ROOT, SHELL, SHELL[1]),
        record(Kind.FILE_OPEN, b"/a", key=SHELL, parent=ROOT, at=211_000_000_000),
        execd(b"/bin/sh", b"sh", key=SHELL, parent=ROOT, at=212_000_000_000),
        record(Kind.FILE_OPEN, b"/b", key=SHELL, parent=ROOT, at=213_000_000_000),
        execd(b"/usr/bin/curl", b"curl", key=SHELL, parent=ROOT, at=214_000_000_000),
        record(Kind.FILE_OPEN, b"/c", key=SHELL, parent=ROOT, at=215_000_000_000),
    )
    assert [row["process_chain"] for row in found] == [
        "python3.11",
        "python3.11 > python3.11",
        "python3.11 > python3.11",
        "python3.11 > sh",
        "python3.11 > sh",
        "python3.11 > curl",
        "python3.11 > curl",
    ]
    assert found[2]["process_command_line"] == "python app.py"


def test_chain_breaks_when_the_parent_is_short_lived(enricher: Enricher) -> None:
    rows(
        enricher,
        server(),
        fork(ROOT, SHELL, SHELL[1]),
        execd(b"/bin/sh", b"sh", key=SHELL, parent=ROOT, at=211_000_000_000),
        fork(SHELL, CURL, CURL[1], ROOT),
        record(Kind.PROCESS_EXIT, key=SHELL, parent=ROOT, at=221_000_000_000),
    )
    orphan = execd(b"/usr/bin/curl", b"curl", key=CURL, parent=(1, 1), at=222_000_000_000)
    (row,) = rows(enricher, orphan)
    assert row["process_chain"] == "python3.11 > sh > curl"
    assert row["process_entry"] == "child"


def test_chain_is_forgotten_before_ten_minutes_or_kept_for_ever(enricher: Enricher) -> None:
    rows(
        enricher,
        server(),
        fork(ROOT, SHELL, SHELL[1]),
        execd(b"/bin/sh", b"sh", key=SHELL, parent=ROOT, at=211_000_000_000),
        fork(SHELL, CURL, CURL[1], ROOT),
        record(Kind.PROCESS_EXIT, key=SHELL, parent=ROOT, at=221_000_000_000),
    )

    def orphan(at: int) -> str:
        (row,) = rows(enricher, record(Kind.FILE_OPEN, b"/x", key=CURL, parent=(1, 1), at=at))
        return str(row["process_chain"])

    assert orphan(221_000_000_000 + 599_000_000_000) == "python3.11 > sh > sh"
    orphan(221_000_000_000 + 601_000_000_000)
    assert orphan(221_000_000_000 + 602_000_000_000) == "python3.11 > … > sh"


def test_a_reused_pid_inherits_the_dead_process(enricher: Enricher) -> None:
    again = (SHELL[0], 230_000_000_000)
    found = rows(
        enricher,
        server(),
        fork(ROOT, SHELL, SHELL[1]),
        execd(b"/bin/sh", b"sh", key=SHELL, parent=ROOT, at=211_000_000_000),
        record(Kind.PROCESS_EXIT, key=SHELL, parent=ROOT, at=221_000_000_000),
        fork(ROOT, again, again[1]),
        record(Kind.FILE_OPEN, b"/x", key=again, parent=ROOT, at=231_000_000_000),
    )
    assert found[-1]["process_executable_path"] == "/usr/bin/python3.11"
    assert found[-1]["process_entity_id"] != found[2]["process_entity_id"]


def test_a_batch_enriched_again_shows_later_programs(enricher: Enricher) -> None:
    first = (server(), record(Kind.FILE_OPEN, b"/x", at=201_000_000_000))
    told = rows(enricher, *first)
    rows(enricher, execd(b"/bin/sh", b"sh", at=300_000_000_000))
    again = rows(enricher, *first)
    assert [row["process_executable_path"] for row in again] == [row["process_executable_path"] for row in told]


def test_the_record_of_a_groups_start_lacks_the_program_that_made_it_one(enricher: Enricher) -> None:
    start = record(Kind.LIFECYCLE, trigger=Trigger.EXEC, to_phase=1, at=199_999_999_999)
    first, _ = rows(enricher, start, server())
    assert first["process_executable_path"] == "/usr/bin/python3.11"


def test_a_child_whose_fork_comes_late_shows_what_it_executes_later(enricher: Enricher) -> None:
    rows(enricher, server())
    before, after = rows(
        enricher,
        record(Kind.FILE_OPEN, b"/x", key=SHELL, parent=ROOT, at=211_000_000_000),
        execd(b"/bin/sh", b"sh", key=SHELL, parent=ROOT, at=212_000_000_000),
    )
    assert (before["process_chain"], after["process_chain"]) == ("python3.11 > python3.11", "python3.11 > sh")


def test_a_server_counts_as_something_else(enricher: Enricher) -> None:
    model = record(Kind.FILE_OPEN, b"/m.gguf", flags=int(Flag.ROOT | Flag.ARTIFACT), instance=7)
    assert [row["process_entry"] for row in rows(enricher, model)] == ["server"]
    assert [row["process_entry"] for row in rows(enricher, server())] == ["server"]


def test_a_shell_in_the_place_of_a_server_counts_as_server(enricher: Enricher) -> None:
    taken = execd(b"/bin/sh", b"sh", at=300_000_000_000)
    later = record(Kind.FILE_OPEN, b"/x", at=300_000_000_001)
    assert [row["process_entry"] for row in rows(enricher, server(), taken, later)] == ["server", "child", "child"]


def test_a_repeat_told_late_makes_a_shell_a_server(enricher: Enricher) -> None:
    rows(enricher, server(), execd(b"/bin/sh", b"sh", at=300_000_000_000))
    repeat = record(Kind.FILE_OPEN, b"/x", at=250_000_000_000, flags=int(Flag.ROOT | Flag.SERVER))
    later = record(Kind.FILE_OPEN, b"/x", at=310_000_000_000)
    assert [row["process_entry"] for row in rows(enricher, repeat, later)] == ["server", "child"]


def test_an_orphan_of_a_workload_counts_as_entered(enricher: Enricher) -> None:
    orphan = record(Kind.FILE_OPEN, b"/x", key=(5000, 9), parent=(4000, 8), at=300_000_000_000)
    assert rows(enricher, server(), orphan)[1]["process_entry"] == "child"


def test_a_forked_worker_of_a_server_counts_as_child(enricher: Enricher) -> None:
    worker = record(
        Kind.FILE_OPEN,
        b"/x",
        key=SHELL,
        parent=ROOT,
        at=211_000_000_000,
        flags=int(Flag.LEADER | Flag.SERVER),
    )
    assert rows(enricher, server(), fork(ROOT, SHELL, SHELL[1]), worker)[2]["process_entry"] == "server"


def test_a_program_name_forges_a_link_of_the_chain(enricher: Enricher) -> None:
    (row,) = rows(enricher, execd(b"/tmp/nginx > sshd", b"x"))
    assert row["process_chain"] == "nginx \\x3e sshd"


def test_a_deep_chain_is_unbounded(enricher: Enricher) -> None:
    made, parent = [server()], ROOT
    for depth in range(1, 31):
        child = (1000 + depth, 200_000_000_000 + depth)
        made += [
            fork(parent, child, child[1]),
            execd(b"/bin/p%d" % depth, b"p", key=child, parent=parent, at=child[1]),
        ]
        parent = child
    names = rows(enricher, *made)[-1]["process_chain"].split(" > ")
    assert names == ["python3.11", "p1", "p2", "p3", "…", "p24", "p25", "p26", "p27", "p28", "p29", "p30"]


def test_a_cycle_of_parents_never_ends(enricher: Enricher) -> None:
    a, b = (50, 1), (51, 1)
    found = rows(
        enricher,
        record(Kind.FILE_OPEN, b"/x", key=a, parent=b, at=1),
        record(Kind.FILE_OPEN, b"/x", key=b, parent=a, at=2),
    )
    assert len(found) == 2


def test_many_execs_in_one_batch_show_each_others_program(enricher: Enricher) -> None:
    made = []
    for number in range(50):
        at = 200_000_000_000 + number * 10
        made += [execd(b"/bin/p%d" % number, b"p", at=at), record(Kind.FILE_OPEN, b"/x", at=at + 5)]
    assert [row["process_executable_path"] for row in rows(enricher, *made)] == [f"/bin/p{i}" for i in range(50) for _ in (0, 1)]


def test_the_table_grows_without_bound_or_does_not_count_evictions() -> None:
    table = ProcessTable(limit=10)
    for pid in range(1, 16):
        table.add(Process((pid, pid)))
    assert (len(table), table.evicted) == (10, 5)
    assert table.get((5, 5)) is None
    assert table.get((6, 6)) is not None


def test_living_processes_are_evicted_before_exited_ones() -> None:
    table = ProcessTable(limit=3)
    for pid in (1, 2, 3):
        table.add(Process((pid, pid)))
    table.exited((3, 3), 1)
    table.add(Process((4, 4)))
    assert table.get((1, 1)) is not None
    assert table.get((3, 3)) is None


def test_an_exec_told_late_overwrites_a_later_program() -> None:
    process = Process((1, 1), programs=[Program(10, "/a", "a"), Program(30, "/c", "c")])
    process.run(Program(20, "/b", "b"))
    assert [process.program(at).path for at in (5, 10, 25, 30, 99)] == ["/a", "/a", "/b", "/c", "/c"]


def test_records_of_an_earlier_boot_cost_what_is_known_of_this_one(enricher: Enricher) -> None:
    """After an outage those of both take turns."""
    rows(enricher, server())
    inspector = enricher._boot._inspector
    for _ in range(3):
        (old,) = enricher.enrich(batch(record(Kind.FILE_OPEN, b"/x"), boot_id="99999999-aaaa")).to_pylist()
        assert (old["process_executable_path"], enricher.processes) == ("", 1)
        (row,) = rows(enricher, record(Kind.FILE_OPEN, b"/x"))
        assert row["process_command_line"] == "python app.py"
    assert inspector is not None
    assert enricher._boot._inspector is inspector
    assert not inspector._walks._closing.is_set()


def test_records_of_an_earlier_boot_name_processes_of_this_one(enricher: Enricher) -> None:
    rows(enricher, server())
    old = batch(record(Kind.FILE_OPEN, b"/x"), boot_id="99999999-aaaa")
    (row,) = enricher.enrich(old).to_pylist()
    assert (row["host_boot_id"], row["process_executable_path"]) == ("99999999-aaaa", "")
    assert row["process_entity_id"].startswith("99999999-1000-")


def test_exited_and_foreign_processes_count_as_alive(enricher: Enricher) -> None:
    rows(enricher, server(), fork(ROOT, SHELL, SHELL[1]), fork(ROOT, CURL, CURL[1]))
    assert enricher.processes == 3
    rows(enricher, record(Kind.PROCESS_EXIT, key=SHELL, parent=ROOT, at=300_000_000_000))
    assert enricher.processes == 2


def test_a_record_without_a_process_gets_one(enricher: Enricher) -> None:
    (row,) = rows(enricher, record(Kind.HOST_CANARY, key=NO_KEY, parent=NO_KEY, root=NO_KEY, group=0))
    assert (row["process_entity_id"], row["process_chain"], row["workload_id"]) == ("", "", "")


def test_a_thousand_processes_in_a_batch_are_mixed_up(enricher: Enricher) -> None:
    keys = [(2000 + i, 500 + i) for i in range(1000)]
    forks = [fork(ROOT, key, 300 + i) for i, key in enumerate(keys)]
    execs = [execd(b"/bin/p%d" % i, b"p", key=key, parent=ROOT, at=10_000 + i) for i, key in enumerate(keys)]
    opens = [record(Kind.FILE_OPEN, b"/f%d" % i, key=key, parent=ROOT, at=20_000 + i) for i, key in enumerate(keys)]
    order = np.random.default_rng(3).permutation(1000)
    found = rows(enricher, server(), *forks, *execs, *[opens[i] for i in order])[-1000:]
    opened = [row for row in found if row["event_name"] == "file_open"]
    assert all(row["process_executable_path"][6:] == row["file_path"][2:] for row in opened)
