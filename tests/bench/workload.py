"""Rows as busy model servers make them: many paths, most of them seen before; nothing that a rule is after."""

from __future__ import annotations

import random

import pyarrow as pa
from modelward_proto.fields import WIRE_FIELDS, WIRE_SCHEMA

from tests.batches import events

_PACKAGES = ("torch", "transformers", "numpy", "scipy", "sklearn", "onnxruntime", "fastapi", "pydantic", "uvicorn", "tokenizers")
_COLUMNS = [f.column for f in WIRE_FIELDS]
_PYTHON = "/usr/bin/python3.11"


def _pool() -> list[str]:
    """3,000 files that imports and loads touch."""
    chance = random.Random(9)
    made = []
    for index in range(3000):
        package = chance.choice(_PACKAGES)
        folder = f"/opt/venv/lib/python3.11/site-packages/{package}/{chance.choice(('core', 'models', 'utils', 'ops', '_impl'))}"
        ending = chance.choice((".py", "/__pycache__/x.cpython-311.pyc", ".cpython-311-x86_64-linux-gnu.so", ".json"))
        made.append(f"{folder}/part_{index}{ending}")
    return made


_POOL = _pool()


def batch(rows: int, seed: int, time_ns: int) -> pa.RecordBatch:
    """One batch of the wire. A tenth of its paths were never seen before, a tenth come from /proc, the rest from the pool."""
    chance = random.Random(seed)
    made = events(rows, seed=seed, time_ns=time_ns)
    opened = [path != "" for path in made.column("file_path").to_pylist()]
    workers = [chance.randrange(64) for _ in range(rows)]
    programs = [_PYTHON if worker % 8 else "/usr/bin/gcc-12" for worker in workers]
    columns: dict[str, list[str]] = {
        "file_path": [_path(chance, seed, row) if is_open else "" for row, is_open in enumerate(opened)],
        "lifecycle_phase": chance.choices(("start", "load", "serve"), (25, 15, 60), k=rows),
        "process_executable_path": programs,
        "process_parent_executable_path": [_PYTHON] * rows,
        "process_chain": ["uvicorn > " + program.rpartition("/")[2] for program in programs],
        "process_command_line": [f"python3.11 -m uvicorn app:app --port {8000 + worker} --workers 8" for worker in workers],
    }
    for name, values in columns.items():
        field = WIRE_SCHEMA.field(name)
        array = pa.array(values, pa.string())
        if pa.types.is_dictionary(field.type):
            array = array.dictionary_encode().cast(field.type)
        made = made.set_column(_COLUMNS.index(name), field, array)
    return made


def _path(chance: random.Random, seed: int, row: int) -> str:
    which = chance.random()
    if which < 0.1:
        return f"/tmp/tmp{seed:04x}{row:06x}"
    if which < 0.2:
        return f"/proc/{4700 + chance.randrange(40)}/{chance.choice(('stat', 'status', 'maps', 'cmdline'))}"
    return chance.choice(_POOL)
