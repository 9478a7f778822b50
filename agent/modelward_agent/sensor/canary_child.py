"""What the canary does: each effect once. Run by file name, with nothing but the standard library.

Usage: ``python -I -S canary_child.py ARTIFACT NAMELESS SECONDS_OF_READING``; begins when a line comes on standard input, and
prints the port on which it answers one client. NAMELESS is an artifact by its content alone.
"""

import ctypes
import mmap
import os
import signal
import socket
import struct
import sys
import time

_QUIET_S = 0.3
"""longer than a load must be quiet"""
_LOOKS_S = 0.3
"""in which the agent looks several times what is mapped"""
_SETUP, _ENTER = 425, 426
_OPENAT, _AT_FDCWD, _GETEVENTS, _SQES = 18, -100, 1, 0x10000000


def open_by_uring(path: bytes) -> int:
    """Open a file for reading without a system call that opens; returns the descriptor, or a negative errno."""
    call = ctypes.CDLL(None, use_errno=True).syscall
    parameters = ctypes.create_string_buffer(120)
    ring = call(_SETUP, 1, parameters)
    if ring < 0:
        return -ctypes.get_errno()
    offsets = struct.unpack("=7I", parameters.raw[40:68])
    completions = struct.unpack("=6I", parameters.raw[80:104])
    tail, array, entries = offsets[1], offsets[6], completions[5]
    queue = mmap.mmap(ring, max(array + 64, entries + 64), flags=mmap.MAP_SHARED | mmap.MAP_POPULATE, offset=0)
    requests = mmap.mmap(ring, 64, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE, offset=_SQES)
    name = ctypes.create_string_buffer(path)
    requests[:64] = struct.pack("=BBHiQQIIQ24x", _OPENAT, 0, 0, _AT_FDCWD, 0, ctypes.addressof(name), 0, os.O_RDONLY, 1)
    queue[array : array + 4] = struct.pack("=I", 0)
    queue[tail : tail + 4] = struct.pack("=I", 1)
    if call(_ENTER, ring, 1, 1, _GETEVENTS, None, 0) < 0:
        return -ctypes.get_errno()
    (_user_data, result) = struct.unpack("=Qi", queue[entries : entries + 12])
    return int(result)


def main() -> None:
    artifact_path, nameless, reading = sys.argv[1], sys.argv[2], float(sys.argv[3])
    sys.stdin.readline()
    # Before the artifact makes it a load: an agent that runs on this host would rightly call a shell in a load an attack.
    shell = os.fork()
    if shell == 0:
        os.execv("/bin/sh", ["sh", "-c", "exit 0"])
    os.waitpid(shell, 0)
    artifact = os.open(artifact_path, os.O_RDONLY)
    end = time.monotonic() + reading
    while time.monotonic() < end:
        os.read(artifact, 64)
        time.sleep(0.01)
    mapped = mmap.mmap(artifact, 0, prot=mmap.PROT_READ)
    os.close(artifact)
    open_by_uring(artifact_path.encode())
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen()
    child = os.fork()
    if child == 0:
        socket.create_connection(server.getsockname()).close()
        os._exit(0)
    os.waitpid(child, 0)
    server.accept()[0].close()
    time.sleep(_QUIET_S)
    print(server.getsockname()[1], flush=True)
    server.accept()[0].send(b"x")
    time.sleep(_LOOKS_S)
    mapped.close()
    os.read(os.open(nameless, os.O_RDONLY), 64)
    time.sleep(_LOOKS_S)
    signal.signal(signal.SIGTERM, lambda *_: None)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
