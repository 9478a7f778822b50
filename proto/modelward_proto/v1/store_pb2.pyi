from modelward_proto.v1 import stream_pb2 as _stream_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AppendRequest(_message.Message):
    __slots__ = ("agent_id", "epoch", "number", "checksum", "batch_time_ns", "host", "events", "detections", "bindings", "kinds", "quarantine", "decoded_bytes")
    class KindsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    BATCH_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    DETECTIONS_FIELD_NUMBER: _ClassVar[int]
    BINDINGS_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    QUARANTINE_FIELD_NUMBER: _ClassVar[int]
    DECODED_BYTES_FIELD_NUMBER: _ClassVar[int]
    agent_id: bytes
    epoch: bytes
    number: int
    checksum: int
    batch_time_ns: int
    host: str
    events: bytes
    detections: bytes
    bindings: bytes
    kinds: _containers.ScalarMap[str, int]
    quarantine: str
    decoded_bytes: int
    def __init__(self, agent_id: _Optional[bytes] = ..., epoch: _Optional[bytes] = ..., number: _Optional[int] = ..., checksum: _Optional[int] = ..., batch_time_ns: _Optional[int] = ..., host: _Optional[str] = ..., events: _Optional[bytes] = ..., detections: _Optional[bytes] = ..., bindings: _Optional[bytes] = ..., kinds: _Optional[_Mapping[str, int]] = ..., quarantine: _Optional[str] = ..., decoded_bytes: _Optional[int] = ...) -> None: ...

class AppendReply(_message.Message):
    __slots__ = ("stored", "quarantined")
    STORED_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_FIELD_NUMBER: _ClassVar[int]
    stored: bool
    quarantined: str
    def __init__(self, stored: _Optional[bool] = ..., quarantined: _Optional[str] = ...) -> None: ...

class HeldRequest(_message.Message):
    __slots__ = ("agent_id", "epoch", "host")
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    agent_id: bytes
    epoch: bytes
    host: str
    def __init__(self, agent_id: _Optional[bytes] = ..., epoch: _Optional[bytes] = ..., host: _Optional[str] = ..., **kwargs) -> None: ...

class HeldReply(_message.Message):
    __slots__ = ("held",)
    HELD_FIELD_NUMBER: _ClassVar[int]
    held: _containers.RepeatedCompositeFieldContainer[_stream_pb2.Range]
    def __init__(self, held: _Optional[_Iterable[_Union[_stream_pb2.Range, _Mapping]]] = ...) -> None: ...

class ReportRequest(_message.Message):
    __slots__ = ("host", "agent_id", "epoch", "hello", "heartbeat", "closed", "detections", "received")
    HOST_FIELD_NUMBER: _ClassVar[int]
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    DETECTIONS_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    host: str
    agent_id: bytes
    epoch: bytes
    hello: _stream_pb2.Hello
    heartbeat: _stream_pb2.Heartbeat
    closed: bool
    detections: bytes
    received: _containers.RepeatedCompositeFieldContainer[_stream_pb2.Count]
    def __init__(self, host: _Optional[str] = ..., agent_id: _Optional[bytes] = ..., epoch: _Optional[bytes] = ..., hello: _Optional[_Union[_stream_pb2.Hello, _Mapping]] = ..., heartbeat: _Optional[_Union[_stream_pb2.Heartbeat, _Mapping]] = ..., closed: _Optional[bool] = ..., detections: _Optional[bytes] = ..., received: _Optional[_Iterable[_Union[_stream_pb2.Count, _Mapping]]] = ...) -> None: ...

class ReportReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SelectRequest(_message.Message):
    __slots__ = ("sql", "parameters", "format", "max_rows")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SQL_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    MAX_ROWS_FIELD_NUMBER: _ClassVar[int]
    sql: str
    parameters: _containers.ScalarMap[str, str]
    format: str
    max_rows: int
    def __init__(self, sql: _Optional[str] = ..., parameters: _Optional[_Mapping[str, str]] = ..., format: _Optional[str] = ..., max_rows: _Optional[int] = ...) -> None: ...

class SelectReply(_message.Message):
    __slots__ = ("data", "error", "kind")
    DATA_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    error: str
    kind: str
    def __init__(self, data: _Optional[bytes] = ..., error: _Optional[str] = ..., kind: _Optional[str] = ...) -> None: ...

class ExceptionRequest(_message.Message):
    __slots__ = ("id", "rule_name", "model_digest", "executable_path", "host_name", "reason", "author", "expires_ns", "revoked")
    ID_FIELD_NUMBER: _ClassVar[int]
    RULE_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    EXECUTABLE_PATH_FIELD_NUMBER: _ClassVar[int]
    HOST_NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_NS_FIELD_NUMBER: _ClassVar[int]
    REVOKED_FIELD_NUMBER: _ClassVar[int]
    id: str
    rule_name: str
    model_digest: str
    executable_path: str
    host_name: str
    reason: str
    author: str
    expires_ns: int
    revoked: bool
    def __init__(self, id: _Optional[str] = ..., rule_name: _Optional[str] = ..., model_digest: _Optional[str] = ..., executable_path: _Optional[str] = ..., host_name: _Optional[str] = ..., reason: _Optional[str] = ..., author: _Optional[str] = ..., expires_ns: _Optional[int] = ..., revoked: _Optional[bool] = ...) -> None: ...

class AdvanceRequest(_message.Message):
    __slots__ = ("output", "stored_at_ns", "detection_id")
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    STORED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    DETECTION_ID_FIELD_NUMBER: _ClassVar[int]
    output: str
    stored_at_ns: int
    detection_id: str
    def __init__(self, output: _Optional[str] = ..., stored_at_ns: _Optional[int] = ..., detection_id: _Optional[str] = ...) -> None: ...

class BackupRequest(_message.Message):
    __slots__ = ("folder",)
    FOLDER_FIELD_NUMBER: _ClassVar[int]
    folder: str
    def __init__(self, folder: _Optional[str] = ...) -> None: ...

class WriteReply(_message.Message):
    __slots__ = ("error",)
    ERROR_FIELD_NUMBER: _ClassVar[int]
    error: str
    def __init__(self, error: _Optional[str] = ...) -> None: ...
