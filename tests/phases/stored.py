"""What the collector holds of one server: its marks with their tags, its transitions, its detections."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.demo.console import Detection

if TYPE_CHECKING:
    from tests.phases.run import Run
    from tests.phases.server import Server

_PAGE = 5000
_COLUMNS = """toUnixTimestamp64Nano(time) AS ns, event_name, event_outcome, process_pid AS pid, thread_id AS tid,
    process_root_id AS root, lifecycle_phase AS phase, lifecycle_scope AS scope, lifecycle_evidence AS evidence,
    lifecycle_from AS before, lifecycle_trigger AS trigger, lifecycle_detail AS detail, lifecycle_origin_phase AS origin_phase,
    lifecycle_origin_scope AS origin_scope, lifecycle_origin_via AS origin_via, lifecycle_origin_model AS origin_model,
    lifecycle_origin_instance AS origin_instance, lifecycle_origin_age_s AS origin_age_s, model_instance AS instance, model_id,
    model_digest, file_path AS path, file_access AS access, process_command_line AS command, process_parent_pid AS parent,
    workload_runtime AS runtime"""
_NAME = re.compile(r"([^.]*)\.([^.]*)\.([^.]*)\.([^.]*)\.(\d+)-(\d+)\.truth")


@dataclass(frozen=True)
class Mark:
    """What a file's name says, and when the file was made."""

    phases: frozenset[str]
    models: frozenset[str]
    role: str
    origins: frozenset[str]
    pid: int
    number: int
    made_ns: int
    name: str

    @property
    def words(self) -> str:
        return "+".join(sorted(self.phases))


@dataclass
class Stored:
    """Everything of one run. Rows are dictionaries by the names above, oldest first."""

    server: Server
    pid: int
    marks: dict[str, Mark]
    opened: dict[str, dict[str, Any]]
    """By the mark's name: the row of its open."""
    rows: list[dict[str, Any]]
    """All events of the server's workload."""
    detections: list[Detection]
    digests: dict[str, set[str]]
    health: dict[int, int] = field(default_factory=dict)
    agent_started_ns: int = 0

    def lifecycle(self, **wanted: str) -> list[dict[str, Any]]:
        """Transitions whose columns have these values."""
        return [row for row in self.rows if row["event_name"] == "lifecycle"
                and all(row[column] == value for column, value in wanted.items())]

    def label_of(self, model_id: str, digest: str | None = None) -> str:
        """The label that the agent's name of a model stands for; ``?`` and the name when it is none."""
        for label, model in self.server.models.items():
            known = self.digests.get(label)
            if model.name == model_id and (digest is None or not known or digest in known):
                return label
        return f"?{model_id or 'unnamed'}{'' if digest is None else '@' + (digest[:8] or 'no digest')}"

    def label_of_file(self, path: str) -> str | None:
        """The model to which a file below the folder of models belongs."""
        for label, model in self.server.models.items():
            if any(fnmatch(path, pattern) for pattern in (f"*/models/{model.path}", *(f"*/models/{a}" for a in model.artifacts))):
                return label
        return None


def read_mark(path: Path) -> Mark | None:
    """The mark that a file is; None when it is none."""
    found = _NAME.fullmatch(path.name)
    if not found:
        return None
    phase, model, role, origin, pid, number = found.groups()
    return Mark(frozenset(phase.split("+")), frozenset(model.split("+")), role, frozenset(origin.split("+")),
                int(pid), int(number), path.stat().st_mtime_ns, path.name)


def stored_of(run: Run) -> Stored:
    """Wait until all is stored and models have their names; read it."""
    whole = run.whole
    whole.watch.settle(120)
    truth = str(run.truth)
    # Servers have names such as "Ollama's processes".
    quoted = truth.replace("\\", "\\\\").replace("'", "\\'")
    marked = f"event_name = 'file_open' AND startsWith(file_path, '{quoted}/')"
    # A server may be several workloads, such as one that is tracked from its workers' artifacts on.
    own = ("process_root_id IN (SELECT DISTINCT process_root_id FROM events "
           f"WHERE {marked} OR process_root_id LIKE '%-{run.pid}-%')")
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        unnamed = whole.console.query(f"SELECT count() AS n FROM events WHERE model_instance != 0 AND model_id = '' AND {own}")
        if int(unnamed[0]["n"]) == 0:
            break
        time.sleep(0.5)
    rows: list[dict[str, Any]] = []
    while True:
        page = whole.console.query(f"SELECT {_COLUMNS} FROM events WHERE {own} ORDER BY time, epoch, batch, row "
                                   f"LIMIT {_PAGE} OFFSET {len(rows)}")
        rows += page
        if len(page) < _PAGE:
            break
    for row in rows:
        for column in ("ns", "instance", "origin_instance"):
            row[column] = int(row[column])
    opened = {row["path"].rpartition("/")[2]: row for row in rows if row["path"].startswith(truth + "/")}
    marks = {mark.name: mark for path in run.truth.iterdir() if (mark := read_mark(path))}
    roots = {row["root"].split("-")[1] for row in rows}
    whole.watch.look()
    found = [d for d in whole.watch.all() if str(d.root_pid) in roots]
    return Stored(run.server, run.pid, marks, opened, rows, found, run.digests, dict(run.statuses), run.agent_started_ns)
