"""Which opens are looked into: whole columns are sorted out, and a flood of one workload leaves those of others."""

from __future__ import annotations

import time

import numpy as np
import pytest
from modelward_agent.enrich.candidates import ruled_out
from modelward_agent.enrich.enricher import Enricher
from modelward_agent.identity.recogniser import Opened
from modelward_agent.sensor.constants import Evidence, Flag, Outcome, Phase, Trigger
from modelward_proto.kinds import Kind

from tests.unit.kernel_records import BOOT, GROUP, ROOT, batch, execd, record


def opened(path: bytes, inode: int = 5, **members: int) -> np.ndarray:
    return record(Kind.FILE_OPEN, path, **({"inode": inode, "device": 7, "access": 1, "instance": 0} | members))


def candidates(*made: np.ndarray) -> list[Opened]:
    enricher = Enricher(boot_id=BOOT)
    enricher.enrich(batch(execd(b"/usr/bin/python3", b"server", at=1), *made))
    return enricher.candidates()[0]


def test_a_file_without_extension_is_looked_into() -> None:
    [found] = candidates(opened(b"/srv/blob", tid=1001))
    assert (found.path, found.device, found.inode, found.pid, found.tid, found.start_ns, found.group) == (
        b"/srv/blob", 7, 5, ROOT[0], 1001, ROOT[1], GROUP)
    assert found.workload.startswith("host:")


@pytest.mark.parametrize(("path", "members"), [
    (b"/srv/model.gguf", {"flags": int(Flag.ARTIFACT)}),
    (b"/srv/written", {"access": 2}),
    (b"/srv/both", {"access": 3}),
    (b"/srv/refused", {"outcome": int(Outcome.FAILURE)}),
    (b"/srv/nobody", {"group": 0}),
    (b"/srv/unknown", {"inode": 0}),
])
def test_what_is_known_or_not_read_is_not_looked_into(path: bytes, members: dict[str, int]) -> None:
    assert not candidates(opened(path, **members))


@pytest.mark.parametrize("path", [
    b"/usr/lib/python3.11/json/decoder.py", b"/app/__pycache__/x.cpython-311.pyc", b"/usr/lib/x86_64-linux-gnu/libm.so.6",
    b"/usr/lib/libstdc++.so.6.0.30", b"/opt/libcuda.so", b"/proc/self/maps", b"/sys/devices/system/cpu/online",
    b"/etc/ld.so.cache", b"/venv/x.dist-info/METADATA", b"/venv/x.dist-info/RECORD", b"/etc/nsswitch.conf",
])
def test_names_that_no_model_has_are_ruled_out(path: bytes) -> None:
    assert not candidates(opened(path))


@pytest.mark.parametrize("path", [
    b"/srv/blobs/sha256-0123", b"a", b"/srv/app.log", b"/srv/weights.so.x", b"/srv/py", b"/srv/so", b"/procfs/model",
    b"/srv/model.7", b"/srv/x.pyz", b"/srv/record",
])
def test_other_names_are_not(path: bytes) -> None:
    assert [each.path for each in candidates(opened(path))] == [path]


def test_a_name_alone_will_do_for_an_open_that_was_asked_of_io_uring() -> None:
    made = [opened(path, inode=0, device=0, outcome=int(Outcome.ATTEMPTED)) for path in (b"/srv/one", b"/srv/two")]
    assert [(each.path, each.inode) for each in candidates(*made)] == [(b"/srv/one", 0), (b"/srv/two", 0)]


def test_each_process_that_opens_a_file_is_told_once() -> None:
    child = (2000, 9)
    found = candidates(opened(b"/srv/blob"), opened(b"/srv/blob"), opened(b"/srv/blob", key=child, parent=ROOT))
    assert [each.pid for each in found] == [ROOT[0], 2000]


def test_a_flood_of_one_workload_is_cut_and_counted_and_leaves_others_theirs() -> None:
    other = (3000, 17)
    flood = [opened(b"/srv/%d" % n, n + 1) for n in range(1000)]
    last = opened(b"/srv/honest", 7, key=other, root=other, group=GROUP + 1, at=300_000_000_000)
    enricher = Enricher(boot_id=BOOT)
    enricher.enrich(batch(execd(b"/usr/bin/python3", b"server", at=1), *flood, last))
    found, _, passed_over = enricher.candidates()
    assert len(found) == 129
    assert found[-1].path == b"/srv/honest"
    assert passed_over == 1000 - 128


def test_files_opened_for_writing_are_told_apart() -> None:
    enricher = Enricher(boot_id=BOOT)
    enricher.enrich(batch(opened(b"/srv/blob", 9, access=2), opened(b"/srv/blob", 9, access=3)))
    assert enricher.candidates() == ([], [(7, 9)], 0)
    assert enricher.candidates() == ([], [], 0)


def test_records_of_an_earlier_boot_are_not_looked_into() -> None:
    enricher = Enricher(boot_id="another boot")
    enricher.enrich(batch(opened(b"/srv/blob")))
    assert not enricher.candidates()[0]


def test_sorting_out_costs_little_of_what_is_no_candidate() -> None:
    paths = [b"/usr/lib/python3.11/site-packages/package/module_%d.py" % n for n in range(8192)]
    flat = np.frombuffer(b"".join(paths), np.uint8)
    lengths = np.array([len(path) for path in paths])
    starts = np.cumsum(lengths) - lengths
    began = time.thread_time()
    assert ruled_out(flat, starts, lengths).all()
    assert time.thread_time() - began < 0.1


def late(path: bytes = b"", **members: int) -> np.ndarray:
    told = {"trigger": int(Trigger.LATE), "to_phase": int(Phase.LOAD), "artifact_inode": 5, "artifact_device": 7, "instance": 99,
            "evidence": int(Evidence.RECONSTRUCTED)}
    return record(Kind.LIFECYCLE, path, **(told | members))


def test_a_load_that_was_found_late_is_told_with_its_path_and_identified() -> None:
    enricher = Enricher(boot_id=BOOT)
    enricher.enrich(batch(opened(b"/srv/blob")))
    enricher.recognised(enricher.candidates()[0])
    rows = enricher.enrich(batch(late(), late(trigger=int(Trigger.QUIET))))
    assert rows.column("file_path").to_pylist() == ["/srv/blob"] * 2
    assert rows.column("lifecycle_trigger").to_pylist() == ["late", "quiet"]
    [artifact] = enricher.wanted()
    assert (artifact.instance, artifact.path, artifact.device, artifact.inode, artifact.pid) == (99, b"/srv/blob", 7, 5, ROOT[0])


def test_a_load_of_which_the_path_comes_later_is_identified_then() -> None:
    enricher = Enricher(boot_id=BOOT)
    enricher.enrich(batch(opened(b"/srv/blob")))
    found = enricher.candidates()[0]
    enricher.enrich(batch(late()))
    assert not enricher.wanted()
    enricher.recognised(found)
    assert [each.path for each in enricher.wanted()] == [b"/srv/blob"]


def test_each_load_of_which_the_path_comes_later_is_identified_then() -> None:
    enricher = Enricher(boot_id=BOOT)
    enricher.enrich(batch(opened(b"/srv/blob")))
    found = enricher.candidates()[0]
    enricher.enrich(batch(late(), late(instance=100)))
    assert not enricher.begun()
    enricher.recognised(found)
    assert {each.instance for each in enricher.wanted()} == {99, 100}


def test_a_load_that_was_found_late_is_said_to_have_begun_once() -> None:
    enricher = Enricher(boot_id=BOOT)
    enricher.enrich(batch(opened(b"/srv/blob")))
    [found] = enricher.candidates()[0]
    enricher.recognised([found])
    enricher.enrich(batch(late()))
    assert enricher.begun() == [(found.workload, found.group, (found.device, found.inode), found.pid)]
    assert not enricher.begun()
