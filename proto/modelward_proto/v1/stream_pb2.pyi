from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Lane(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LANE_LIVE: _ClassVar[Lane]
    LANE_BACKFILL: _ClassVar[Lane]

class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODE_WATCHING: _ClassVar[Mode]
    MODE_PAUSED: _ClassVar[Mode]
    MODE_DEGRADED: _ClassVar[Mode]
LANE_LIVE: Lane
LANE_BACKFILL: Lane
MODE_WATCHING: Mode
MODE_PAUSED: Mode
MODE_DEGRADED: Mode

class AgentMessage(_message.Message):
    __slots__ = ("hello", "batch", "heartbeat")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    batch: Batch
    heartbeat: Heartbeat
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., batch: _Optional[_Union[Batch, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ...) -> None: ...

class CollectorMessage(_message.Message):
    __slots__ = ("welcome", "ack", "quarantine", "credit", "refusal", "command")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    QUARANTINE_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    ack: Ack
    quarantine: Quarantine
    credit: Credit
    refusal: Refusal
    command: Command
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., quarantine: _Optional[_Union[Quarantine, _Mapping]] = ..., credit: _Optional[_Union[Credit, _Mapping]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ..., command: _Optional[_Union[Command, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("agent_id", "epoch", "schema_version", "agent_version", "host_name", "boot_id", "kernel_release", "first_unacked", "last_spooled", "doors", "labels")
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    HOST_NAME_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    KERNEL_RELEASE_FIELD_NUMBER: _ClassVar[int]
    FIRST_UNACKED_FIELD_NUMBER: _ClassVar[int]
    LAST_SPOOLED_FIELD_NUMBER: _ClassVar[int]
    DOORS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    agent_id: bytes
    epoch: bytes
    schema_version: int
    agent_version: str
    host_name: str
    boot_id: str
    kernel_release: str
    first_unacked: int
    last_spooled: int
    doors: _containers.RepeatedCompositeFieldContainer[Door]
    labels: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, agent_id: _Optional[bytes] = ..., epoch: _Optional[bytes] = ..., schema_version: _Optional[int] = ..., agent_version: _Optional[str] = ..., host_name: _Optional[str] = ..., boot_id: _Optional[str] = ..., kernel_release: _Optional[str] = ..., first_unacked: _Optional[int] = ..., last_spooled: _Optional[int] = ..., doors: _Optional[_Iterable[_Union[Door, _Mapping]]] = ..., labels: _Optional[_Iterable[str]] = ...) -> None: ...

class Door(_message.Message):
    __slots__ = ("effect", "door", "reason", "proven", "loss")
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    DOOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PROVEN_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    effect: str
    door: str
    reason: str
    proven: bool
    loss: str
    def __init__(self, effect: _Optional[str] = ..., door: _Optional[str] = ..., reason: _Optional[str] = ..., proven: _Optional[bool] = ..., loss: _Optional[str] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("number", "epoch", "schema_version", "batch_time_ns", "checksum", "rows", "events", "kinds", "lane", "arrow")
    class KindsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    BATCH_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    ARROW_FIELD_NUMBER: _ClassVar[int]
    number: int
    epoch: bytes
    schema_version: int
    batch_time_ns: int
    checksum: int
    rows: int
    events: int
    kinds: _containers.ScalarMap[str, int]
    lane: Lane
    arrow: bytes
    def __init__(self, number: _Optional[int] = ..., epoch: _Optional[bytes] = ..., schema_version: _Optional[int] = ..., batch_time_ns: _Optional[int] = ..., checksum: _Optional[int] = ..., rows: _Optional[int] = ..., events: _Optional[int] = ..., kinds: _Optional[_Mapping[str, int]] = ..., lane: _Optional[_Union[Lane, str]] = ..., arrow: _Optional[bytes] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("time_ns", "uptime_ns", "ledger", "doors", "spool_bytes", "spool_limit_bytes", "tracked_processes", "oldest_unacked_age_ns", "problems", "mode", "mode_reason", "results")
    TIME_NS_FIELD_NUMBER: _ClassVar[int]
    UPTIME_NS_FIELD_NUMBER: _ClassVar[int]
    LEDGER_FIELD_NUMBER: _ClassVar[int]
    DOORS_FIELD_NUMBER: _ClassVar[int]
    SPOOL_BYTES_FIELD_NUMBER: _ClassVar[int]
    SPOOL_LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    TRACKED_PROCESSES_FIELD_NUMBER: _ClassVar[int]
    OLDEST_UNACKED_AGE_NS_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    MODE_REASON_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    time_ns: int
    uptime_ns: int
    ledger: _containers.RepeatedCompositeFieldContainer[Count]
    doors: _containers.RepeatedCompositeFieldContainer[Door]
    spool_bytes: int
    spool_limit_bytes: int
    tracked_processes: int
    oldest_unacked_age_ns: int
    problems: _containers.RepeatedScalarFieldContainer[str]
    mode: Mode
    mode_reason: str
    results: _containers.RepeatedCompositeFieldContainer[CommandResult]
    def __init__(self, time_ns: _Optional[int] = ..., uptime_ns: _Optional[int] = ..., ledger: _Optional[_Iterable[_Union[Count, _Mapping]]] = ..., doors: _Optional[_Iterable[_Union[Door, _Mapping]]] = ..., spool_bytes: _Optional[int] = ..., spool_limit_bytes: _Optional[int] = ..., tracked_processes: _Optional[int] = ..., oldest_unacked_age_ns: _Optional[int] = ..., problems: _Optional[_Iterable[str]] = ..., mode: _Optional[_Union[Mode, str]] = ..., mode_reason: _Optional[str] = ..., results: _Optional[_Iterable[_Union[CommandResult, _Mapping]]] = ...) -> None: ...

class Count(_message.Message):
    __slots__ = ("hop", "kind", "count")
    HOP_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    hop: str
    kind: str
    count: int
    def __init__(self, hop: _Optional[str] = ..., kind: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("collector_version", "schema_min", "schema_max", "held", "credit_bytes", "host_name")
    COLLECTOR_VERSION_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_MIN_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_MAX_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    CREDIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    HOST_NAME_FIELD_NUMBER: _ClassVar[int]
    collector_version: str
    schema_min: int
    schema_max: int
    held: _containers.RepeatedCompositeFieldContainer[Range]
    credit_bytes: int
    host_name: str
    def __init__(self, collector_version: _Optional[str] = ..., schema_min: _Optional[int] = ..., schema_max: _Optional[int] = ..., held: _Optional[_Iterable[_Union[Range, _Mapping]]] = ..., credit_bytes: _Optional[int] = ..., host_name: _Optional[str] = ...) -> None: ...

class Range(_message.Message):
    __slots__ = ("first", "last", "checksums")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    CHECKSUMS_FIELD_NUMBER: _ClassVar[int]
    first: int
    last: int
    checksums: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, first: _Optional[int] = ..., last: _Optional[int] = ..., checksums: _Optional[_Iterable[int]] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("epoch", "batches")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    epoch: bytes
    batches: _containers.RepeatedCompositeFieldContainer[Range]
    def __init__(self, epoch: _Optional[bytes] = ..., batches: _Optional[_Iterable[_Union[Range, _Mapping]]] = ...) -> None: ...

class Quarantine(_message.Message):
    __slots__ = ("epoch", "number", "reason")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    epoch: bytes
    number: int
    reason: str
    def __init__(self, epoch: _Optional[bytes] = ..., number: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Credit(_message.Message):
    __slots__ = ("bytes",)
    BYTES_FIELD_NUMBER: _ClassVar[int]
    bytes: int
    def __init__(self, bytes: _Optional[int] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class Command(_message.Message):
    __slots__ = ("id", "test_alert")
    ID_FIELD_NUMBER: _ClassVar[int]
    TEST_ALERT_FIELD_NUMBER: _ClassVar[int]
    id: str
    test_alert: TestAlert
    def __init__(self, id: _Optional[str] = ..., test_alert: _Optional[_Union[TestAlert, _Mapping]] = ...) -> None: ...

class TestAlert(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CommandResult(_message.Message):
    __slots__ = ("id", "error")
    ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: str
    error: str
    def __init__(self, id: _Optional[str] = ..., error: _Optional[str] = ...) -> None: ...
