"""A thin binding of libbpf.so.1 (1.1 and later): only what the sensor calls, each with its types.

Written against libbpf 1.1.2's libbpf.h and bpf.h. Calls of libbpf 1.x return negative errno or NULL with
errno set.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
from ctypes import POINTER, byref, c_bool, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from functools import cache
from pathlib import Path

from modelward_agent.sensor.errors import SensorError

_PRINT = ctypes.CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)
_WARN = 0


class _TestRun(ctypes.Structure):
    """struct bpf_test_run_opts."""

    _fields_ = (
        ("sz", c_size_t), ("data_in", c_void_p), ("data_out", c_void_p), ("data_size_in", c_uint32),
        ("data_size_out", c_uint32), ("ctx_in", c_void_p), ("ctx_out", c_void_p), ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32), ("retval", c_uint32), ("repeat", c_int), ("duration", c_uint32), ("flags", c_uint32),
        ("cpu", c_uint32), ("batch_size", c_uint32),
    )


@cache
def _load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as e:
        raise SensorError("libbpf.so.1 is missing: install the package libbpf1 (Debian, Ubuntu) or libbpf (Fedora)") from e
    pointer = c_void_p
    for name, result, arguments in (
        ("bpf_object__open_file", pointer, (c_char_p, pointer)),
        ("bpf_object__load", c_int, (pointer,)),
        ("bpf_object__close", None, (pointer,)),
        ("bpf_object__next_program", pointer, (pointer, pointer)),
        ("bpf_object__find_map_by_name", pointer, (pointer, c_char_p)),
        ("bpf_program__name", c_char_p, (pointer,)),
        ("bpf_program__section_name", c_char_p, (pointer,)),
        ("bpf_program__set_autoload", c_int, (pointer, c_bool)),
        ("bpf_program__fd", c_int, (pointer,)),
        ("bpf_program__attach", pointer, (pointer,)),
        ("bpf_program__attach_tracepoint", pointer, (pointer, c_char_p, c_char_p)),
        ("bpf_program__attach_cgroup", pointer, (pointer, c_int)),
        ("bpf_program__attach_iter", pointer, (pointer, pointer)),
        ("bpf_link__destroy", c_int, (pointer,)),
        ("bpf_link__fd", c_int, (pointer,)),
        ("bpf_iter_create", c_int, (c_int,)),
        ("bpf_map__fd", c_int, (pointer,)),
        ("bpf_map__max_entries", c_uint32, (pointer,)),
        ("bpf_map__set_max_entries", c_int, (pointer, c_uint32)),
        ("bpf_map_update_elem", c_int, (c_int, pointer, pointer, c_uint64)),
        ("bpf_map_lookup_elem", c_int, (c_int, pointer, pointer)),
        ("bpf_map_delete_elem", c_int, (c_int, pointer)),
        ("bpf_map_lookup_and_delete_batch", c_int, (c_int, pointer, pointer, pointer, pointer, POINTER(c_uint32), pointer)),
        ("bpf_prog_test_run_opts", c_int, (c_int, POINTER(_TestRun))),
        ("bpf_obj_get_info_by_fd", c_int, (c_int, pointer, POINTER(c_uint32))),
        ("libbpf_num_possible_cpus", c_int, ()),
        ("libbpf_set_print", pointer, (_PRINT,)),
    ):
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library


_FAILED = re.compile(r"prog '([^']+)': (?:BPF program load failed: |failed to (?:load|find|create|prepare)[^:]*: )(.*)")


class Log:
    """What libbpf says while it loads. It names each program that the kernel refused, which its return value
    does not."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.lines: list[str] = []
        libc = ctypes.CDLL(None)
        libc.vsnprintf.argtypes = (c_char_p, c_size_t, c_char_p, c_void_p)
        buffer = ctypes.create_string_buffer(65536)

        def write(level: int, form: bytes, arguments: int) -> int:
            if level == _WARN:
                libc.vsnprintf(buffer, len(buffer), form, arguments)
                self.lines += buffer.value.decode("utf-8", "replace").splitlines()
            return 0

        self._write = _PRINT(write)
        library.libbpf_set_print(self._write)

    def refused(self) -> dict[str, str]:
        """Program name to libbpf's word on it, of the load that just failed."""
        found: dict[str, str] = {}
        for line in self.lines:
            if match := _FAILED.search(line):
                why = match[2].strip() or "refused"
                found.setdefault(match[1], "this kernel has no such hook" if why == str(-errno.ESRCH) else why)
        return found

    def take(self) -> list[str]:
        lines, self.lines = self.lines, []
        return lines


@cache
def _log() -> Log:
    """One for the process, and for ever: libbpf keeps calling the function that it was given."""
    return Log(_load())


class Map:
    """A map of a loaded object, by file descriptor."""

    def __init__(self, library: ctypes.CDLL, handle: int, name: str) -> None:
        self._library = library
        self._handle = handle
        self.name = name

    @property
    def fd(self) -> int:
        return int(self._library.bpf_map__fd(self._handle))

    @property
    def max_entries(self) -> int:
        return int(self._library.bpf_map__max_entries(self._handle))

    def resize(self, entries: int) -> None:
        """Before the load only. Raises OSError."""
        _check(self._library.bpf_map__set_max_entries(self._handle, entries), f"size of map {self.name}")

    def update(self, key: bytes, value: bytes) -> None:
        """Raises OSError."""
        _check(self._library.bpf_map_update_elem(self.fd, key, value, 0), f"update of map {self.name}")

    def delete(self, key: bytes) -> None:
        """Missing keys are no error."""
        self._library.bpf_map_delete_elem(self.fd, key)

    def lookup(self, key: bytes, size: int) -> bytes:
        """Value of a key; ``size`` bytes. Raises OSError."""
        value = ctypes.create_string_buffer(size)
        _check(self._library.bpf_map_lookup_elem(self.fd, key, value), f"look-up in map {self.name}")
        return value.raw

    def take_all(self, keys: int, values: int, room: int) -> int:
        """Read and delete every entry into two buffers (addresses) with room for ``room``; returns how many
        there were. Raises OSError."""
        cursor = c_uint64()
        count = c_uint32(room)
        err = self._library.bpf_map_lookup_and_delete_batch(
            self.fd, None, byref(cursor), keys, values, byref(count), None)
        if err and -err != 2:  # ENOENT: that was the last
            _check(err, f"drain of map {self.name}")
        return int(count.value)


class Program:
    """A program of an object."""

    def __init__(self, library: ctypes.CDLL, handle: int) -> None:
        self._library = library
        self._handle = handle
        self.name: str = library.bpf_program__name(handle).decode()
        self.section: str = library.bpf_program__section_name(handle).decode()

    @property
    def fd(self) -> int:
        return int(self._library.bpf_program__fd(self._handle))

    def skip(self) -> None:
        """Do not load it."""
        self._library.bpf_program__set_autoload(self._handle, False)

    def attach(self) -> Link:
        """Attach as its section says. Raises OSError."""
        return self._link(self._library.bpf_program__attach(self._handle))

    def attach_tracepoint(self, category: str, name: str) -> Link:
        """Attach to one more tracepoint; needs tracefs. Raises OSError."""
        return self._link(self._library.bpf_program__attach_tracepoint(self._handle, category.encode(), name.encode()))

    def attach_cgroup(self, directory: int) -> Link:
        """Attach to a cgroup (v2) given as a descriptor. Raises OSError."""
        return self._link(self._library.bpf_program__attach_cgroup(self._handle, directory))

    def _link(self, handle: int | None) -> Link:
        if not handle:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), self.name)
        return Link(self._library, handle)

    def iterate(self) -> bytes:
        """Run an iterator program over everything once and return what it wrote. Raises OSError."""
        link = self._link(self._library.bpf_program__attach_iter(self._handle, None))
        try:
            fd = int(self._library.bpf_iter_create(self._library.bpf_link__fd(link.handle)))
            _check(fd, f"iterator {self.name}")
            with os.fdopen(fd, "rb", buffering=0) as stream:
                return stream.read() or b""
        finally:
            link.destroy()

    def run(self, context: ctypes.Array[ctypes.c_char]) -> int:
        """Run a ``syscall`` program once with a context that it may change; returns its return value. Raises
        OSError."""
        options = _TestRun(sz=ctypes.sizeof(_TestRun), ctx_in=ctypes.addressof(context), ctx_size_in=len(context))
        _check(self._library.bpf_prog_test_run_opts(self.fd, byref(options)), f"program {self.name}")
        return int(options.retval)

    def recursion_misses(self) -> int:
        """How often the kernel skipped the program because it was already running on that CPU."""
        info = ctypes.create_string_buffer(256)
        size = c_uint32(len(info))
        _check(self._library.bpf_obj_get_info_by_fd(self.fd, info, byref(size)), f"info of {self.name}")
        # offset of recursion_misses in struct bpf_prog_info, UAPI
        return int.from_bytes(info.raw[208:216], "little") if size.value >= 216 else 0


class Link:
    """An attachment; the program runs until it is destroyed or the agent ends."""

    def __init__(self, library: ctypes.CDLL, handle: int) -> None:
        self._library = library
        self.handle = handle

    def destroy(self) -> None:
        if self.handle:
            self._library.bpf_link__destroy(self.handle)
            self.handle = 0


class Object:
    """An object file opened by libbpf. Maps may be resized and programs skipped before :meth:`load`."""

    def __init__(self, path: Path) -> None:
        self._library = _load()
        self.log = _log()
        self.log.take()
        handle = self._library.bpf_object__open_file(str(path).encode(), None)
        if not handle:
            raise SensorError(f"libbpf cannot open {path}: {os.strerror(ctypes.get_errno())}")
        self._handle: int = handle
        self.programs: dict[str, Program] = {}
        at = self._library.bpf_object__next_program(handle, None)
        while at:
            program = Program(self._library, at)
            self.programs[program.name] = program
            at = self._library.bpf_object__next_program(handle, at)

    def map(self, name: str) -> Map:
        handle = self._library.bpf_object__find_map_by_name(self._handle, name.encode())
        if not handle:
            raise SensorError(f"the kernel object has no map {name}: it is older than this agent")
        return Map(self._library, handle, name)

    def load(self) -> int:
        """0 or a positive errno; :attr:`log` says which program was refused."""
        return -int(self._library.bpf_object__load(self._handle))

    def close(self) -> None:
        if self._handle:
            self._library.bpf_object__close(self._handle)
            self._handle = 0


def possible_cpus() -> int:
    """Number of values that a per-CPU map holds for each key."""
    return int(_load().libbpf_num_possible_cpus())


def _check(result: int, what: str) -> None:
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}")
