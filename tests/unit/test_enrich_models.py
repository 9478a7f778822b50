"""What rows say of the folder of a loaded model, and which of its files are asked for."""

from __future__ import annotations

from typing import Any

from modelward_agent.enrich.enricher import Enricher
from modelward_agent.sensor.constants import Flag, Trigger
from modelward_proto.kinds import Kind

from tests.unit.enriching import enricher, rows
from tests.unit.kernel_records import GROUP, ROOT, execd, record

__all__ = ["enricher"]


def test_a_file_beside_a_loaded_model_is_not_known_as_such(enricher: Enricher) -> None:
    model = record(Kind.FILE_OPEN, b"/srv/m/a.gguf", at=1, flags=int(Flag.ARTIFACT), instance=77)
    beside = record(Kind.FILE_OPEN, b"/srv/m/sub/t.json", at=2)
    other = record(Kind.FILE_OPEN, b"/srv/m2/t.json", at=3)
    foreign = record(Kind.FILE_OPEN, b"/srv/m/t.json", at=4, group=GROUP + 1)
    assert [row["file_in_model_dir"] for row in rows(enricher, model, beside, other, foreign)] == [
        True,
        True,
        False,
        False,
    ]


def test_a_program_beside_a_loaded_model_is_known_as_such(enricher: Enricher) -> None:
    model = record(Kind.FILE_OPEN, b"/srv/m/a.gguf", at=1, flags=int(Flag.ARTIFACT), instance=77)
    found = rows(enricher, model, execd(b"/srv/m/llama-server", b"x", at=2), execd(b"/opt/llama-server", b"x", at=3))
    assert [row["file_in_model_dir"] for row in found] == [True, True, False]


def test_a_model_in_tmp_makes_all_of_tmp_a_model_folder(enricher: Enricher) -> None:
    model = record(Kind.FILE_OPEN, b"/tmp/a.gguf", at=1, flags=int(Flag.ARTIFACT), instance=77)
    assert [row["file_in_model_dir"] for row in rows(enricher, model, record(Kind.FILE_OPEN, b"/tmp/x", at=2))] == [False, False]


def test_a_file_of_an_instance_is_asked_for_twice_or_never(enricher: Enricher) -> None:
    def shard(number: int, at: int) -> Any:
        path = b"/srv/m-%05d-of-00002.safetensors" % number
        return record(
            Kind.FILE_OPEN,
            path,
            b"asked",
            at=at,
            flags=int(Flag.ARTIFACT),
            instance=77,
            inode=number,
            device=3,
        )

    rows(enricher, shard(1, 1), shard(2, 2), record(Kind.FILE_OPEN, b"/srv/config.json", at=3, instance=77))
    artifact, second = enricher.wanted()
    assert (artifact.instance, second.instance, second.inode) == (77, 77, 2)
    assert (artifact.instance, artifact.path, artifact.asked) == (
        77,
        b"/srv/m-00001-of-00002.safetensors",
        b"asked",
    )
    assert (artifact.pid, artifact.start_ns, artifact.inode, artifact.device) == (*ROOT, 1, 3)
    rows(enricher, shard(2, 4))
    assert enricher.wanted() == []


def test_of_an_instance_with_too_many_files_that_is_not_seen(enricher: Enricher) -> None:
    opens = [record(Kind.FILE_OPEN, b"/srv/m", at=n, flags=int(Flag.ARTIFACT), instance=77, inode=n) for n in range(1, 600)]
    rows(enricher, *opens)
    assert len(enricher.wanted()) == 513


def test_an_adopted_servers_model_is_not_asked_for(enricher: Enricher) -> None:
    rows(
        enricher,
        record(
            Kind.LIFECYCLE,
            b"/srv/a.gguf",
            instance=5,
            artifact_inode=9,
            artifact_device=2,
            trigger=Trigger.ADOPTED,
        ),
    )
    (artifact,) = enricher.wanted()
    assert (artifact.instance, artifact.inode, artifact.device) == (5, 9, 2)
