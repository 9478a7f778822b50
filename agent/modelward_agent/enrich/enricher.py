"""Spooled kernel records to the wire: one Arrow row per record, and one per loss.

Bulk rows (opens, connects) are columns from end to end. Python looks once at each process, each address and
each odd text, and at every exec.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from modelward_proto.fields import WIRE_FIELDS, WIRE_SCHEMA, Kind
from modelward_proto.text import escape

from modelward_agent.enrich import effect_columns as effects
from modelward_agent.enrich.attribution import Attribution
from modelward_agent.enrich.candidates import Candidates
from modelward_agent.enrich.columns import shared, sparse
from modelward_agent.enrich.late_loads import Begun, LateLoads
from modelward_agent.enrich.loads import Loads
from modelward_agent.enrich.process_columns import process_columns, replay
from modelward_agent.enrich.rows import Rows
from modelward_agent.enrich.sightings import Sightings
from modelward_agent.identity.artifact import Artifact, Identity
from modelward_agent.identity.recogniser import File, Opened
from modelward_agent.identity.record import parse_identity
from modelward_agent.sensor.constants import Segment

Column = npt.NDArray[Any]

_REMEMBERED_MODELS = 16384
_MODEL_TEXTS = ("id", "revision", "digest", "format", "source", "architecture", "quantization", "base", "path")


class Batch(Protocol):
    """What is read of a spooled batch (``spool.batch.SpooledBatch``)."""

    @property
    def batch_time_ns(self) -> int: ...
    @property
    def wall_offset_ns(self) -> int: ...
    @property
    def boot_id(self) -> str: ...
    @property
    def small(self) -> Column: ...
    @property
    def large(self) -> Column: ...
    @property
    def losses(self) -> tuple[tuple[str, str, int], ...]: ...
    @property
    def late(self) -> bool: ...


class Enricher:
    """Turns batches of one spool, in order, into wire rows. Not for use by several threads.

    Whatever the records hold, it does not raise: numbers outside a closed set become its first value, texts
    are cut at the record's end and
    marked ``truncated``, a record of an unknown kind becomes a ``loss`` row that names the number.
    """

    def __init__(self, *, boot_id: str, proc: Path = Path("/proc")) -> None:
        self._boot_id = boot_id
        self._boot = Attribution(boot_id, proc)
        self._earlier: Attribution | None = None
        self._loads = Loads()
        self._late = LateLoads()
        self._candidates = Candidates()
        self._models: OrderedDict[int, str] = OrderedDict()

    @property
    def processes(self) -> int:
        """How many processes of workloads are alive, as far as known."""
        return sum(1 for _ in self._boot.table.living())

    @property
    def evicted(self) -> int:
        """How many processes were forgotten early because the table was full."""
        return self._boot.table.evicted

    def wanted(self) -> list[Artifact]:
        """Artifacts that began a model instance since the last call, each instance once."""
        return self._loads.take() + self._late.take()

    def candidates(self) -> tuple[list[Opened], list[File], int]:
        """Since the last call: files that may be models by their content, files that were opened for writing, and how many of the
        former were left out."""
        return self._candidates.take()

    def recognised(self, found: list[Opened]) -> None:
        """These are models: a load that begins with one is told without its path."""
        self._late.recognised(found)

    def begun(self) -> list[Begun]:
        """Loads that began with such, since the last call."""
        return self._late.begun()

    def close(self) -> None:
        """Nothing is enriched any more."""
        self._boot.close()

    def bind(self, instance: int, identity: Identity) -> None:
        """From now on rows whose origin is that instance name the model."""
        self._models[instance] = identity.id
        if len(self._models) > _REMEMBERED_MODELS:
            self._models.popitem(last=False)

    def enrich(self, batch: Batch) -> pa.RecordBatch:
        """WIRE_SCHEMA rows: the records in order of kernel time, then the losses."""
        boot = self._of_boot(batch.boot_id or self._boot_id)
        rows = Rows(batch.small, batch.large, batch.losses, batch.batch_time_ns - batch.wall_offset_ns)
        flags = rows.column("flags")
        runs = Sightings(rows, flags)
        whos, lines = replay(rows, runs, boot)
        self._loads.find(rows, flags, whos, runs.run, boot.workloads)
        self._late.find(rows, whos, runs.run, boot.workloads)
        if boot.boot_id == self._boot_id:
            self._candidates.find(rows, flags, whos, runs.run)
        files = effects.file_columns(rows, flags, whos, runs.run)
        columns = {
            **effects.common_columns(rows, flags, batch.wall_offset_ns),
            **process_columns(rows, runs, whos, lines),
            **effects.exec_columns(rows, flags, batch.wall_offset_ns),
            **files,
            **effects.net_columns(rows, whos, runs.run, boot.workloads),
            **effects.lifecycle_columns(rows),
            **_model_columns(rows),
            "lifecycle.origin.model": self._origin_models(rows),
            "file.path": self._late.named(rows, files["file.path"]),
            "host.boot_id": shared([escape(boot.boot_id.encode("utf-8", "surrogateescape"))], rows.kind),
            "late": np.full(rows.count, batch.late),
        }
        return pa.RecordBatch.from_arrays([_arrow(columns[f.name], f.arrow) for f in WIRE_FIELDS], schema=WIRE_SCHEMA)

    def _origin_models(self, rows: Rows) -> Any:
        if not self._models:
            return sparse(rows.count, {})
        instances, index = np.unique(rows.column("origin_instance"), return_inverse=True)
        return shared([self._models.get(instance, "") for instance in instances.tolist()], index)

    def _of_boot(self, boot_id: str) -> Attribution:
        """Process keys hold within one boot: records of an earlier one get a table of their own, and nothing from /proc. What
        comes from this one goes on between them: after an outage batches of both take turns."""
        if boot_id == self._boot_id:
            return self._boot
        if self._earlier is None or self._earlier.boot_id != boot_id:
            self._earlier = Attribution(boot_id, None)
        return self._earlier


def _model_columns(rows: Rows) -> dict[str, Any]:
    """model.* of identity rows; the store binds the other rows of the instance to them."""
    told = {
        row: parse_identity(rows.raw(row, Segment.PATH), rows.raw(row, Segment.ARGV))
        for row in np.flatnonzero(rows.kind == Kind.MODEL_IDENTITY).tolist()
    }
    return {
        f"model.{name}": sparse(rows.count, {row: getattr(identity, name) for row, identity in told.items()})
        for name in _MODEL_TEXTS
    }


def _arrow(values: Any, kind: pa.DataType) -> pa.Array:
    if not isinstance(values, np.ndarray):
        return values
    if pa.types.is_timestamp(kind):
        return pa.array(values, pa.int64()).view(kind)
    return pa.array(values, kind)
