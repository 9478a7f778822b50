"""However a workload names its programs and files, a batch stays within what the collector lets in."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from modelward_agent import pending
from modelward_agent.enrich.enricher import Enricher
from modelward_agent.enrich.process_table import NO_KEY, Process, Program
from modelward_agent.sensor.constants import Flag
from modelward_agent.transport import payload
from modelward_collector.ingest import validate
from modelward_proto.kinds import Kind

from tests.unit.kernel_records import BOOT, GROUP, ROOT, batch, record

MOST_RECORDS = pending.MAX_RECORDS + 1024
MOST_LARGE = (pending.MAX_BYTES + (1 << 20)) // 8704


def noise(random_: random.Random, count: int) -> str:
    """Characters of four bytes each that the escape lets pass, and that compress badly."""
    return "".join(map(chr, random_.choices(range(0x20000, 0x2A000), k=count)))


def path(random_: random.Random) -> str:
    return "".join("/" + noise(random_, 63) for _ in range(16))


def test_thousands_of_processes_with_long_names_in_one_batch(tmp_path: Path) -> None:
    random_, enricher = random.Random(1), Enricher(boot_id=BOOT, proc=tmp_path)
    keys = [(10_000 + n, 210_000_000_000 + n) for n in range(MOST_RECORDS)]
    programs = [Program(0, path(random_), noise(random_, 1024)) for _ in range(512)]
    for n, key in enumerate(keys):
        parent = keys[n - 1] if n % 8 else NO_KEY
        enricher._boot.table.add(Process(key, parent=parent, group=GROUP, root=ROOT, programs=[programs[n % 512]]))
    opens = batch(*(record(Kind.FILE_OPEN, b"\xff" * 160, key=key, parent=keys[n - 1], at=300_000_000_000 + n)
                    for n, key in enumerate(keys)))
    check(enricher, opens)


def test_long_command_lines_that_are_all_escapes(tmp_path: Path) -> None:
    enricher = Enricher(boot_id=BOOT, proc=tmp_path)
    flags = int(Flag.LEADER)
    execs = [record(Kind.PROCESS_EXEC, b"/" + b"\xff" * 2000, b"/" + b"\xfe" * 2500, b"", b"/", b"\xfd" * 4000, large=True,
                    key=(10_000 + n, 210_000_000_000 + n), at=300_000_000_000 + n, flags=flags) for n in range(MOST_LARGE)]
    check(enricher, batch(*execs))


def check(enricher: Enricher, spooled: Any) -> None:
    rows = enricher.enrich(spooled)
    assert len(payload.to_ipc(rows)) < payload.MAX_PAYLOAD_BYTES < validate.MAX_PAYLOAD_BYTES
    assert rows.nbytes < 44 << 20 < validate.MAX_DECODED_BYTES
