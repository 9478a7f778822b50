"""What the canary of probes does: maps libraries, each in a process of its own, and calls their functions once they are probed.

Usage: ``python -I -S probe_canary_child.py SECONDS``; a line of JSON comes on standard input: for each library its path, and
groups of its functions, of each of which one call is enough.
"""

import ctypes
import json
import os
import sys
import time

_BREAKPOINT = b"\xcc"


def call(path: str, groups: list[list[str]], end: float) -> None:
    """Call one function of each group as soon as a probe stands on it, if that is before ``end``."""
    library = ctypes.CDLL(path)
    while groups and time.monotonic() < end:
        for group in list(groups):
            for name in group:
                function = getattr(library, name)
                function.restype = ctypes.c_void_p
                if ctypes.string_at(ctypes.cast(function, ctypes.c_void_p), 1) == _BREAKPOINT:
                    function(None, None, None)
                    groups.remove(group)
                    break
        time.sleep(0.02)


def main() -> None:
    end = time.monotonic() + float(sys.argv[1])
    children = []
    for path, groups in json.loads(sys.stdin.readline()):
        child = os.fork()
        if child == 0:
            call(path, groups, end)
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
