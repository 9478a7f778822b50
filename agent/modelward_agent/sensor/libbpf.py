"""A thin binding of libbpf.so.1 (1.1 and later): only what the sensor calls, each with its types.

Written against libbpf 1.1.2's libbpf.h and bpf.h. Calls of libbpf 1.x return negative errno or NULL with
errno set.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import struct
import threading
from collections.abc import Callable
from ctypes import POINTER, byref, c_bool, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from functools import cache
from pathlib import Path

from modelward_agent.sensor.errors import SensorError

_PRINT = ctypes.CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)
_WARN = 0

# enum bpf_attach_type, UAPI
_CGROUP = {"cgroup/connect4": 10, "cgroup/connect6": 11}
_ITERATOR = 28
_NO_EXIST = 1
_PERF_EVENT = 41


class _TestRun(ctypes.Structure):
    """struct bpf_test_run_opts."""

    _fields_ = (
        ("sz", c_size_t), ("data_in", c_void_p), ("data_out", c_void_p), ("data_size_in", c_uint32),
        ("data_size_out", c_uint32), ("ctx_in", c_void_p), ("ctx_out", c_void_p), ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32), ("retval", c_uint32), ("repeat", c_int), ("duration", c_uint32), ("flags", c_uint32),
        ("cpu", c_uint32), ("batch_size", c_uint32),
    )


class _IteratorInfo(ctypes.Structure):
    """union bpf_iter_link_info, for iterators over tasks. Numbers are in the caller's PID namespace."""

    _fields_ = (("tid", c_uint32), ("pid", c_uint32), ("pid_fd", c_uint32), ("rest", c_uint32))


class _LinkOptions(ctypes.Structure):
    """struct bpf_link_create_opts, as far as libbpf 1.1 has it."""

    _fields_ = (
        ("sz", c_size_t), ("flags", c_uint32), ("iter_info", c_void_p), ("iter_info_len", c_uint32),
        ("target_btf_id", c_uint32),
        ("bpf_cookie", c_uint64),
    )


class _IteratorOptions(ctypes.Structure):
    """struct bpf_link_create_opts as far as iterators have it, and union bpf_iter_link_info of a task iterator."""

    _fields_ = (("sz", c_size_t), ("flags", c_uint32), ("iter_info", c_void_p), ("iter_info_len", c_uint32),
                ("target_btf_id", c_uint32))


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
        ("bpf_object__next_map", pointer, (pointer, pointer)),
        ("bpf_object__find_map_by_name", pointer, (pointer, c_char_p)),
        ("bpf_program__name", c_char_p, (pointer,)),
        ("bpf_program__section_name", c_char_p, (pointer,)),
        ("bpf_program__set_autoload", c_int, (pointer, c_bool)),
        ("bpf_program__set_expected_attach_type", c_int, (pointer, c_int)),
        ("bpf_program__fd", c_int, (pointer,)),
        ("bpf_program__attach", pointer, (pointer,)),
        ("bpf_raw_tracepoint_open", c_int, (c_char_p, c_int)),
        ("bpf_link_create", c_int, (c_int, c_int, c_int, pointer)),
        ("bpf_link__destroy", c_int, (pointer,)),
        ("bpf_link__fd", c_int, (pointer,)),
        ("bpf_iter_create", c_int, (c_int,)),
        ("bpf_map__fd", c_int, (pointer,)),
        ("bpf_map__name", c_char_p, (pointer,)),
        ("bpf_map__reuse_fd", c_int, (pointer, c_int)),
        ("bpf_map__set_max_entries", c_int, (pointer, c_uint32)),
        ("bpf_map_update_elem", c_int, (c_int, pointer, pointer, c_uint64)),
        ("bpf_map_lookup_elem", c_int, (c_int, pointer, pointer)),
        ("bpf_map_delete_elem", c_int, (c_int, pointer)),
        ("bpf_map_get_next_key", c_int, (c_int, pointer, pointer)),
        ("bpf_map_lookup_batch", c_int, (c_int, pointer, pointer, pointer, pointer, POINTER(c_uint32), pointer)),
        ("bpf_map_lookup_and_delete_batch", c_int, (c_int, pointer, pointer, pointer, pointer, POINTER(c_uint32), pointer)),
        ("bpf_prog_test_run_opts", c_int, (c_int, POINTER(_TestRun))),
        ("bpf_obj_pin", c_int, (c_int, c_char_p)),
        ("bpf_obj_get", c_int, (c_char_p,)),
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
        self._said = threading.local()
        libc = ctypes.CDLL(None)
        libc.vsnprintf.argtypes = (c_char_p, c_size_t, c_char_p, c_void_p)

        def write(level: int, form: bytes, arguments: int) -> int:
            if level == _WARN:
                buffer = ctypes.create_string_buffer(65536)
                libc.vsnprintf(buffer, len(buffer), form, arguments)
                self.lines.extend(buffer.value.decode("utf-8", "replace").splitlines())
            return 0

        self._write = _PRINT(write)
        library.libbpf_set_print(self._write)

    @property
    def lines(self) -> list[str]:
        """What was said to this thread."""
        if not hasattr(self._said, "lines"):
            self._said.lines = []
        said: list[str] = self._said.lines
        return said

    def refused(self) -> dict[str, str]:
        """Program name to libbpf's word on it, of the load that just failed."""
        found: dict[str, str] = {}
        for line in self.lines:
            if match := _FAILED.search(line):
                why = match[2].strip() or "refused"
                found.setdefault(match[1], "this kernel has no such hook" if why == str(-errno.ESRCH) else why)
        return found

    def take(self) -> list[str]:
        lines, self._said.lines = self.lines, []
        return lines


@cache
def _log() -> Log:
    """One for the process, and for ever: libbpf keeps calling the function that it was given."""
    return Log(_load())


class Map:
    """A map in the kernel, by file descriptor. Whoever made it closes it."""

    def __init__(self, library: ctypes.CDLL, fd: int, name: str) -> None:
        self._library = library
        self.fd = fd
        self.name = name
        info = _info(library, fd, f"map {name}")
        _type, self.id, self.key_size, self.value_size, self.max_entries = struct.unpack_from("=5I", info)

    def again(self) -> Map:
        """The same by a descriptor of its own, for another thread; whoever asked closes that."""
        fd = os.dup(self.fd)
        try:
            return Map(self._library, fd, self.name)
        except OSError:
            os.close(fd)
            raise

    def update(self, key: bytes, value: bytes) -> None:
        """Raises OSError."""
        _check(self._library.bpf_map_update_elem(self.fd, key, value, 0), f"update of map {self.name}")

    def add(self, key: bytes, value: bytes) -> None:
        """What is there already stays. Raises OSError."""
        result = int(self._library.bpf_map_update_elem(self.fd, key, value, _NO_EXIST))
        if result != -errno.EEXIST:
            _check(result, f"update of map {self.name}")

    def delete(self, key: bytes) -> None:
        """Missing keys are no error."""
        self._library.bpf_map_delete_elem(self.fd, key)

    def lookup(self, key: bytes, size: int) -> bytes:
        """Value of a key; ``size`` bytes. Raises OSError."""
        value = ctypes.create_string_buffer(size)
        _check(self._library.bpf_map_lookup_elem(self.fd, key, value), f"look-up in map {self.name}")
        return value.raw

    @property
    def empty(self) -> bool:
        """Whether a hash map holds nothing."""
        key = ctypes.create_string_buffer(self.key_size)
        return int(self._library.bpf_map_get_next_key(self.fd, None, key)) == -errno.ENOENT

    def keys(self) -> list[bytes]:
        """All keys of a hash map that nobody else changes."""
        found: list[bytes] = []
        key = ctypes.create_string_buffer(self.key_size)
        while self._library.bpf_map_get_next_key(self.fd, found[-1] if found else None, key) == 0:
            found.append(key.raw)
        return found

    def read_array(self, value_bytes: int) -> bytes:
        """The values of an array, ``value_bytes`` each (per CPU: of all together). Raises OSError."""
        keys = ctypes.create_string_buffer(4 * self.max_entries)
        values = ctypes.create_string_buffer(value_bytes * self.max_entries)
        self.read_all(ctypes.addressof(keys), ctypes.addressof(values), self.max_entries)
        return values.raw

    def read_all(self, keys: int, values: int, room: int) -> int:
        """Read every entry into two buffers (addresses) with room for ``room``; returns how many there are. Raises OSError."""
        return self._all(self._library.bpf_map_lookup_batch, keys, values, room)

    def take_all(self, keys: int, values: int, room: int) -> int:
        """The same, and delete them."""
        return self._all(self._library.bpf_map_lookup_and_delete_batch, keys, values, room)

    def _all(self, call: Callable[..., int], keys: int, values: int, room: int) -> int:
        cursor = c_uint64()
        count = c_uint32(room)
        err = call(self.fd, None, byref(cursor), keys, values, byref(count), None)
        if err and -err != errno.ENOENT:  # ENOENT: that was the last
            _check(err, f"read of map {self.name}")
        return int(count.value)


class Program:
    """A program in the kernel, by file descriptor; before its object is loaded, only something to skip."""

    def __init__(self, library: ctypes.CDLL, name: str, section: str, fd: int = -1, handle: int = 0) -> None:
        self._library = library
        self._handle = handle
        self._fd = fd
        self.name = name
        self.section = section

    @property
    def fd(self) -> int:
        return int(self._library.bpf_program__fd(self._handle)) if self._handle else self._fd

    def skip(self) -> None:
        """Do not load it."""
        self._library.bpf_program__set_autoload(self._handle, False)

    def expect(self, attach_type: int) -> None:
        """How it will be attached, where that is not plain from its section; before the load only."""
        self._library.bpf_program__set_expected_attach_type(self._handle, attach_type)

    def again(self) -> Program:
        """The same by a descriptor of its own, for another thread; whoever asked closes that."""
        return Program(self._library, self.name, self.section, os.dup(self.fd))

    def attach(self) -> Link:
        """Attach as its section says. Raises OSError."""
        if not self.section.startswith("kprobe/"):
            return self._link(self._library.bpf_raw_tracepoint_open(None, self.fd))
        if not self._handle:
            raise OSError(errno.EBADF, "its object is closed", self.name)
        handle = self._library.bpf_program__attach(self._handle)
        if not handle:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), self.name)
        # Only asked whether it works: the descriptor goes with the object.
        fd = os.dup(self._library.bpf_link__fd(handle))
        self._library.bpf_link__destroy(handle)
        return Link(self._library, fd)

    def attach_tracepoint(self, event: int) -> Link:
        """Attach to one more tracepoint, given by its perf event. Raises OSError."""
        return self._link(self._library.bpf_link_create(self.fd, event, _PERF_EVENT, None))

    def attach_probe(self, event: int, cookie: int) -> Link:
        """Attach to a probe on a function, given by its perf event; the program sees the cookie. Raises OSError."""
        options = _LinkOptions(sz=ctypes.sizeof(_LinkOptions), bpf_cookie=cookie)
        return self._link(self._library.bpf_link_create(self.fd, event, _PERF_EVENT, byref(options)))

    def attach_cgroup(self, directory: int) -> Link:
        """Attach to a cgroup (v2) given as a descriptor. Raises OSError."""
        return self._link(self._library.bpf_link_create(self.fd, directory, _CGROUP[self.section], None))

    def _link(self, fd: int) -> Link:
        _check(fd, self.name)
        return Link(self._library, fd)

    def iterate(self, process: int = 0) -> bytes:
        """Run an iterator program over everything once and return what it wrote. Raises OSError.

        Args:
            process: only over its threads, where the kernel can do so (6.1); it may be over everything all the same.
        """
        about = _IteratorInfo(pid=process)
        options = _LinkOptions(ctypes.sizeof(_LinkOptions), 0, ctypes.addressof(about), ctypes.sizeof(about))
        link = self._link(self._library.bpf_link_create(self.fd, 0, _ITERATOR, byref(options) if process else None))
        try:
            fd = int(self._library.bpf_iter_create(link.fd))
            _check(fd, f"iterator {self.name}")
            with os.fdopen(fd, "rb", buffering=0) as stream:
                return stream.read() or b""
        finally:
            link.close()

    def run(self, context: ctypes.Array[ctypes.c_char]) -> int:
        """Run a ``syscall`` program once with a context that it may change; returns its return value. Raises
        OSError."""
        options = _TestRun(sz=ctypes.sizeof(_TestRun), ctx_in=ctypes.addressof(context), ctx_size_in=len(context))
        _check(self._library.bpf_prog_test_run_opts(self.fd, byref(options)), f"program {self.name}")
        return int(options.retval)

    def recursion_misses(self) -> int:
        """How often the kernel skipped the program because it was already running on that CPU."""
        # offset of recursion_misses in struct bpf_prog_info, UAPI; zero on kernels that do not count it
        return int.from_bytes(_info(self._library, self.fd, f"program {self.name}")[208:216], "little")


class Link:
    """An attachment; the program runs until no descriptor and no pin holds it."""

    def __init__(self, library: ctypes.CDLL, fd: int) -> None:
        self._library = library
        self.fd = fd

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def adopt_link(fd: int) -> Link:
    """An attachment that was made otherwise."""
    return Link(_load(), fd)


class Object:
    """An object file opened by libbpf, for one thread. Maps may be resized or taken from elsewhere and programs skipped before
    :meth:`load`."""

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
            name = self._library.bpf_program__name(at).decode()
            section = self._library.bpf_program__section_name(at).decode()
            self.programs[name] = Program(self._library, name, section, handle=at)
            at = self._library.bpf_object__next_program(handle, at)

    def maps(self) -> dict[str, Map]:
        """The maps of a loaded object."""
        found: dict[str, Map] = {}
        at = self._library.bpf_object__next_map(self._handle, None)
        while at:
            name = self._library.bpf_map__name(at).decode()
            # libbpf names those of the compiler after the object, as far as a name is long.
            found["." + name.partition(".")[2] if "." in name else name] = Map(self._library, self._library.bpf_map__fd(at), name)
            at = self._library.bpf_object__next_map(self._handle, at)
        return found

    def resize(self, name: str, entries: int) -> None:
        """Before the load only. Raises OSError."""
        _check(self._library.bpf_map__set_max_entries(self._map(name), entries), f"size of map {name}")

    def reuse(self, name: str, fd: int) -> None:
        """Take a map that exists already instead of a new one, before the load. Raises OSError."""
        _check(self._library.bpf_map__reuse_fd(self._map(name), fd), f"reuse of map {name}")

    def _map(self, name: str) -> int:
        handle = self._library.bpf_object__find_map_by_name(self._handle, name.encode())
        if not handle:
            raise SensorError(f"the kernel object has no map {name}: it is older than this agent")
        return int(handle)

    def load(self) -> int:
        """0 or a positive errno; :attr:`log` says which program was refused."""
        return -int(self._library.bpf_object__load(self._handle))

    def close(self) -> None:
        if self._handle:
            self._library.bpf_object__close(self._handle)
            self._handle = 0


def pin(fd: int, path: Path) -> None:
    """Keep a map, program or link in the kernel under a name in a bpf file system. Raises OSError."""
    _check(_load().bpf_obj_pin(fd, str(path).encode()), f"pin {path}")


def pinned(path: Path) -> int:
    """A new descriptor of what is pinned there. Raises OSError."""
    fd = int(_load().bpf_obj_get(str(path).encode()))
    _check(fd, f"pin {path}")
    return fd


def pinned_map(path: Path, name: str) -> Map:
    """Raises OSError."""
    return Map(_load(), pinned(path), name)


def pinned_program(path: Path, name: str, section: str) -> Program:
    """Raises OSError."""
    return Program(_load(), name, section, pinned(path))


def _info(library: ctypes.CDLL, fd: int, what: str) -> bytes:
    """What the kernel says of a map or program, zeros where it says nothing. Raises OSError."""
    info = ctypes.create_string_buffer(256)
    size = c_uint32(len(info))
    _check(library.bpf_obj_get_info_by_fd(fd, info, byref(size)), f"info of {what}")
    return info.raw


def possible_cpus() -> int:
    """Number of values that a per-CPU map holds for each key."""
    return int(_load().libbpf_num_possible_cpus())


def _check(result: int, what: str) -> None:
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}")
