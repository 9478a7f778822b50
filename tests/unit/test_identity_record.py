"""An identity record passes through the spool and becomes a row that binds instance and model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from modelward_agent.enrich.enricher import Enricher
from modelward_agent.identity.artifact import Artifact, Identity, told_identity
from modelward_agent.identity.record import identity_record, parse_identity
from modelward_agent.sensor import records
from modelward_agent.sensor.constants import Flag, Phase
from modelward_proto.kinds import Kind
from modelward_proto.text import is_inert

from tests.unit.kernel_records import BOOT, batch, execd, record

IDENTITY = Identity("acme/tiny", "abc", "9" * 64, "gguf", "hf_cache", "llama", "Q4_K_M", "acme/base", path="/srv/m.gguf")

TEXTS = ("id", "revision", "digest", "format", "source", "architecture", "quantization", "base", "path")


def opened(enricher: Enricher) -> Artifact:
    model = record(
        Kind.FILE_OPEN,
        b"/srv/m.gguf",
        flags=int(Flag.ARTIFACT | Flag.TRUNCATED),
        instance=77,
        inode=5,
        device=6,
        phase=Phase.LOAD,
        changed_ns=2**64 - 1,
        links=3,
        open_flags=0o100,
        access=1,
        at=201_000_000_000,
    )
    enricher.enrich(batch(execd(b"/usr/bin/python3.11", b"python"), model))
    (artifact,) = enricher.wanted()
    return artifact


def test_an_identity_row_does_not_bind(tmp_path: Path) -> None:
    enricher = Enricher(boot_id=BOOT, proc=tmp_path)
    raw = identity_record(77, opened(enricher), IDENTITY)
    assert len(raw) == records.LARGE.itemsize
    (row,) = enricher.enrich(batch(np.frombuffer(raw, records.LARGE))).to_pylist()
    assert row["event_name"] == "model_identity"
    assert row["model_instance"] == 77
    assert {name: row[f"model_{name}"] for name in TEXTS} == {
        "architecture": "llama",
        "quantization": "Q4_K_M",
        "base": "acme/base",
        "id": "acme/tiny",
        "revision": "abc",
        "digest": "9" * 64,
        "format": "gguf",
        "source": "hf_cache",
        "path": "/srv/m.gguf",
    }
    assert (row["file_path"], row["file_inode"], row["file_device"], row["count"]) == ("/srv/m.gguf", 5, 6, 1)
    assert row["process_chain"] == "python3.11"
    assert row["workload_id"].startswith("host:")
    assert (row["truncated"], row["file_access"], row["lifecycle_trigger"]) == (False, "none", "none")


def test_other_rows_have_model_columns(tmp_path: Path) -> None:
    enricher = Enricher(boot_id=BOOT, proc=tmp_path)
    (row,) = enricher.enrich(batch(record(Kind.FILE_OPEN, b"/x", b"y", b"", b"", b'{"id":"forged"}', instance=77))).to_pylist()
    assert [row[f"model_{name}"] for name in ("id", "digest", "path")] == ["", "", ""]


def test_a_bound_origin_is_not_named(tmp_path: Path) -> None:
    enricher = Enricher(boot_id=BOOT, proc=tmp_path)
    enricher.bind(77, IDENTITY)
    rows = enricher.enrich(
        batch(record(Kind.FILE_OPEN, b"/x", at=1, origin_instance=77), record(Kind.FILE_OPEN, b"/y", at=2))
    ).to_pylist()
    assert [row["lifecycle_origin_model"] for row in rows] == ["acme/tiny", ""]


@given(st.binary(max_size=100), st.binary(max_size=200))
def test_a_hostile_identity_raises_or_is_not_inert(path: bytes, text: bytes) -> None:
    found = parse_identity(path, text)
    assert all(is_inert(part) for part in (found.id, found.revision, found.digest, found.format, found.source, found.path))


@given(
    st.recursive(
        st.none() | st.integers() | st.text() | st.floats(),
        lambda inner: st.dictionaries(st.sampled_from(["id", "revision", "digest", "format", "source"]), inner) | st.lists(inner),
    )
)
def test_hostile_json_raises_or_is_not_bounded(told: object) -> None:
    found = told_identity(b"/x", told)
    assert all(is_inert(part) and len(part) <= 256 * 16 for part in (found.id, found.revision, found.format, found.source))
    assert len(found.digest) in (0, 64)


def test_a_model_hides_its_digest_behind_long_texts(tmp_path: Path) -> None:
    artifact = Artifact(1, 1, 1, b"/m", b"", 1, 1, 1)
    for text in ("\x01" * 999, "\\" * 999, "\U0010ffff" * 999):
        told = told_identity(artifact.path, dict.fromkeys(TEXTS, text) | {"digest": "9" * 64})
        made = np.frombuffer(identity_record(1, artifact, told), records.LARGE)
        (row,) = Enricher(boot_id=BOOT, proc=tmp_path).enrich(batch(made)).to_pylist()
        assert row["model_digest"] == "9" * 64
        assert len(row["model_id"]) >= 64


def test_the_longest_identity_does_not_fit_its_record(tmp_path: Path) -> None:
    artifact = Artifact(1, 1, 1, b"/" + b"p" * 4095, b"", 1, 1, 1)
    long = told_identity(
        artifact.path,
        dict.fromkeys(("id", "revision", "format", "source"), "😀" * 999) | {"digest": "9" * 64},
    )
    made = np.frombuffer(identity_record(1, artifact, long), records.LARGE)
    (row,) = Enricher(boot_id=BOOT, proc=tmp_path).enrich(batch(made)).to_pylist()
    assert (row["model_id"], row["model_digest"]) == (long.id, "9" * 64)
    assert row["model_path"].startswith("/ppp")
