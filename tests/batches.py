"""Arrow batches as an agent makes them, and an agent's side of the stream, for tests of everything behind the wire.

Deterministic: the same arguments make the same rows. ``events()`` makes many realistic ones, ``from_rows()`` exactly those
given by field name; ``envelope()`` wraps them, ``Agent`` sends them over a real stream and collects the answers.
"""

from __future__ import annotations

import queue
import random
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from modelward_proto.field import Field
from modelward_proto.fields import SCHEMA_VERSION, WIRE_FIELDS, WIRE_SCHEMA
from modelward_proto.v1 import stream_pb2_grpc
from modelward_proto.v1.stream_pb2 import (
    LANE_LIVE,
    AgentMessage,
    Batch,
    CollectorMessage,
    Command,
    Count,
    Door,
    Heartbeat,
    Hello,
    Welcome,
)

BOOT = "2f0c1a2b-0000-4000-8000-000000000001"
PROGRAMS = ("/usr/bin/python3.11", "/usr/bin/dash", "/usr/bin/gcc-12", "/usr/sbin/ldconfig", "/opt/venv/bin/uvicorn")
FILES = (
    "/srv/models/tiny.gguf", "/srv/models/clf.joblib", "/usr/lib/python3.11/json/decoder.py",
    "/usr/lib/x86_64-linux-gnu/libc.so.6", "/etc/ssl/certs/ca-certificates.crt", "/proc/self/maps",
    "/tmp/tmpa1b2c3", "/srv/übersicht/modell.onnx",
)
ADDRESSES = ("127.0.0.1", "10.0.0.7", "93.184.216.34", "::1", "2001:db8::7")


def now_ns() -> int:
    """Wall clock, as an agent stamps its batches."""
    return time.time_ns()


def zero(field: Field) -> Any:
    """What a missing value is."""
    if field.type == "closed":
        return field.values[0]
    if field.type in ("string", "strings"):
        return "" if field.type == "string" else []
    return False if field.type == "bool" else 1 if field.name == "count" else 0


def from_rows(rows: Sequence[Mapping[str, Any]], schema: pa.Schema = WIRE_SCHEMA) -> pa.RecordBatch:
    """Rows given by dotted field name; ``time`` in nanoseconds; what is missing is the zero of its type."""
    fields = [f for f in WIRE_FIELDS if f.column in schema.names]
    unknown = {name for row in rows for name in row} - {f.name for f in fields}
    if unknown:
        raise KeyError(f"no such wire field: {', '.join(sorted(unknown))}")
    arrays = [_array(f, [row.get(f.name, zero(f)) for row in rows]) for f in fields]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def events(rows: int, *, seed: int = 1, time_ns: int | None = None, **fixed: Any) -> pa.RecordBatch:
    """Realistic rows: mostly opens, some connects, forks, execs, exits and lifecycle changes of one server's workload.

    ``fixed`` sets a column (underscores) for all rows, such as ``model_instance=7`` or ``lifecycle_phase="serve"``.
    ``time_ns``: time of the last row, now by default; rows are 50 microseconds apart.
    """
    chance = random.Random(seed)
    last = now_ns() if time_ns is None else time_ns
    kinds = chance.choices(
        ("file_open", "connect", "fork", "exec", "exit", "lifecycle"), (80, 8, 4, 4, 3, 1), k=rows)
    pids = [4711 + chance.randrange(8) for _ in range(rows)]
    programs = [PROGRAMS[pid % len(PROGRAMS)] for pid in pids]
    made: dict[str, list[Any]] = {
        "time": [last - 50_000 * (rows - 1 - i) for i in range(rows)],
        "event_name": kinds,
        "host_boot_id": [BOOT] * rows,
        "workload_id": ["host:2f0c1a2b-4711-55000000"] * rows,
        "workload_runtime": ["uvicorn"] * rows,
        "process_pid": pids,
        "thread_id": pids,
        "process_entity_id": [f"2f0c1a2b-{pid}-55000000" for pid in pids],
        "process_parent_pid": [4700] * rows,
        "process_parent_entity_id": ["2f0c1a2b-4700-54000000"] * rows,
        "process_root_id": ["2f0c1a2b-4711-55000000"] * rows,
        "process_chain": ["uvicorn > " + p.rpartition("/")[2] for p in programs],
        "process_entry": ["child"] * rows,
        "process_executable_path": programs,
        "process_command_line": [p.rpartition("/")[2] + " -m serve" for p in programs],
        "user_id": [1000] * rows,
        "file_path": [chance.choice(FILES) if k in ("file_open", "lifecycle") else "" for k in kinds],
        "file_inode": [chance.randrange(1, 1 << 40) if k == "file_open" else 0 for k in kinds],
        "file_access": ["read" if k == "file_open" else "none" for k in kinds],
        "destination_address": [chance.choice(ADDRESSES) if k == "connect" else "" for k in kinds],
        "destination_port": [443 if k == "connect" else 0 for k in kinds],
        "network_transport": ["tcp" if k == "connect" else "none" for k in kinds],
        "lifecycle_phase": ["serve"] * rows,
    }
    made |= {column: [value] * rows for column, value in fixed.items()}
    arrays = [_array(f, made.get(f.column) or [zero(f)] * rows) for f in WIRE_FIELDS]
    return pa.RecordBatch.from_arrays(arrays, schema=WIRE_SCHEMA)


def identity(instance: int, model: str, *, digest: str = "9f86d0", path: str = "/srv/models/tiny.gguf",
             format: str = "gguf", time_ns: int | None = None) -> pa.RecordBatch:
    """The row that binds an instance to a model."""
    return from_rows([{
        "time": time_ns or now_ns(), "event.name": "model_identity", "host.boot_id": BOOT, "model.instance": instance,
        "model.id": model, "model.digest": digest, "model.format": format, "model.source": "file", "model.path": path,
        "workload.id": "host:2f0c1a2b-4711-55000000",
    }])


def payload(batch: pa.RecordBatch, compression: str | None = "zstd") -> bytes:
    """The Arrow IPC stream of a batch."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as stream:
        stream.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


def envelope(number: int, batch: pa.RecordBatch, *, epoch: bytes = b"E" * 16, time_ns: int | None = None,
             checksum: int | None = None, **changed: Any) -> Batch:
    """The message for a batch, with true counts; ``changed`` overrides members, to lie about them."""
    counts = dict(zip(*_kinds(batch), strict=True))
    made = Batch(
        number=number, epoch=epoch, schema_version=SCHEMA_VERSION, batch_time_ns=time_ns or now_ns(),
        checksum=zlib.crc32(b"%d" % number) if checksum is None else checksum, rows=batch.num_rows,
        events=sum(counts.values()), kinds=counts, lane=LANE_LIVE, arrow=payload(batch))
    for name, value in changed.items():
        setattr(made, name, value)
    return made


class Agent:
    """An agent's side of one stream. Use as a context manager; answers are collected by a thread."""

    def __init__(self, address: str, *, agent_id: bytes = b"A" * 16, epoch: bytes = b"E" * 16, host: str = "test-host",
                 first_unacked: int = 1, credentials: grpc.ChannelCredentials | None = None,
                 hello: Hello | None = None) -> None:
        self.epoch = epoch
        self._hello = hello or Hello(
            agent_id=agent_id, epoch=epoch, schema_version=SCHEMA_VERSION, agent_version="0.1.0", host_name=host,
            boot_id=BOOT, kernel_release="6.18.0", first_unacked=first_unacked,
            doors=[Door(effect="exec", door="tp_btf", reason="test", proven=True)])
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", 64 << 20)]
        self._channel = (grpc.secure_channel(address, credentials, options) if credentials
                         else grpc.insecure_channel(address, options))
        self._out: queue.Queue[AgentMessage | None] = queue.Queue()
        self._changed = threading.Condition()
        self.welcome: Welcome | None = None
        self.stored: set[int] = set()
        self.quarantined: dict[int, str] = {}
        self.credit = 0
        self.refused = ""
        self.commands: list[Command] = []
        self.ended: grpc.StatusCode | None = None
        self.wait_for_ready = True

    def __enter__(self) -> Agent:
        self._out.put(AgentMessage(hello=self._hello))
        self._call = stream_pb2_grpc.CollectorStub(self._channel).Stream(
            self._messages(), wait_for_ready=self.wait_for_ready)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the stream as an agent that stops does."""
        self._out.put(None)
        self._thread.join(5)
        self.cut()

    def cut(self) -> None:
        """End the stream as a broken network does."""
        self._call.cancel()
        self._channel.close()

    def wait_welcome(self, timeout_s: float = 20) -> Welcome:
        """The collector's answer to Hello."""
        self._wait(lambda: self.welcome is not None or self.ended is not None, timeout_s, "Welcome")
        if self.welcome is None:
            raise AssertionError(f"no Welcome: {self.refused or self.ended}")
        return self.welcome

    def send(self, *batches: Batch) -> None:
        """Send batches, whatever the credit."""
        for batch in batches:
            self._out.put(AgentMessage(batch=batch))

    def heartbeat(self, ledger: Mapping[tuple[str, str], int] | None = None, **changed: Any) -> None:
        """Send a heartbeat."""
        cells = [Count(hop=hop, kind=kind, count=n) for (hop, kind), n in (ledger or {}).items()]
        values = {"time_ns": now_ns(), "uptime_ns": 10**9, "ledger": cells} | changed
        self._out.put(AgentMessage(heartbeat=Heartbeat(**values)))

    def wait_answered(self, *numbers: int, timeout_s: float = 30) -> None:
        """Wait until each of these batches is stored or quarantined."""
        self._wait(lambda: set(numbers) <= self.stored | set(self.quarantined), timeout_s, f"answers for {numbers[:5]}…")

    def wait_credit(self, wanted: bool, timeout_s: float = 30) -> None:
        """Wait until the credit is above zero, or zero."""
        self._wait(lambda: (self.credit > 0) == wanted, timeout_s, f"credit {'above' if wanted else 'of'} zero")

    def wait_ended(self, timeout_s: float = 20) -> grpc.StatusCode:
        """Wait until the collector has ended the stream."""
        self._wait(lambda: self.ended is not None, timeout_s, "the end of the stream")
        assert self.ended is not None
        return self.ended

    def wait_command(self, number: int = 1, timeout_s: float = 20) -> Command:
        """The ``number``-th command of the collector."""
        self._wait(lambda: len(self.commands) >= number, timeout_s, "a command")
        return self.commands[number - 1]

    def _wait(self, done: Any, timeout_s: float, what: str) -> None:
        with self._changed:
            if not self._changed.wait_for(done, timeout_s):
                raise TimeoutError(f"waited {timeout_s} s for {what}; stored {len(self.stored)}, ended {self.ended}")

    def _messages(self) -> Iterator[AgentMessage]:
        while (message := self._out.get()) is not None:
            yield message

    def _read(self) -> None:
        status = grpc.StatusCode.OK
        try:
            for message in self._call:
                with self._changed:
                    self._take(message)
                    self._changed.notify_all()
        except grpc.RpcError as e:
            status = e.code()
        with self._changed:
            self.ended = status
            self._changed.notify_all()

    def _take(self, message: CollectorMessage) -> None:
        kind = message.WhichOneof("message")
        if kind == "welcome":
            self.welcome, self.credit = message.welcome, message.welcome.credit_bytes
        elif kind == "ack":
            self.stored |= {n for r in message.ack.batches for n in range(r.first, r.last + 1)}
        elif kind == "quarantine":
            self.quarantined[message.quarantine.number] = message.quarantine.reason
        elif kind == "credit":
            self.credit = message.credit.bytes
        elif kind == "command":
            self.commands.append(message.command)
        elif kind == "refusal":
            self.refused = message.refusal.reason


def _array(field: Field, values: list[Any]) -> pa.Array:
    if field.type == "closed":
        places = {value: i for i, value in enumerate(field.values)}
        indices = pa.array(np.fromiter((places[v] for v in values), np.int8, len(values)))
        return pa.DictionaryArray.from_arrays(indices, pa.array(list(field.values)))
    return pa.array(values, field.arrow)


def _kinds(batch: pa.RecordBatch) -> tuple[list[str], list[int]]:
    if "event_name" not in batch.schema.names or not batch.num_rows:
        return [], []
    names = batch.column("event_name").cast(pa.string())
    counts = batch.column("count") if "count" in batch.schema.names else pa.array([1] * batch.num_rows)
    sums = pa.table({"name": names, "count": counts}).group_by("name").aggregate([("count", "sum")])
    return sums.column("name").to_pylist(), pc.cast(sums.column("count_sum"), pa.uint64()).to_pylist()


