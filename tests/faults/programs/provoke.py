"""``provoke.py ARTIFACT FOLDER PORT``: become tracked by opening an artifact, then do what each line on standard input asks.

A line is a JSON object: ``distinct``, ``same``, ``canaries`` (opens: of new paths, of one path, of paths that a rule knows),
``execs``, ``connects`` and ``seconds`` over which to spread them. What was really done is printed as one JSON line, after
each request: this is the ground truth, so nothing here catches an error and goes on.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time

TRUE = "/usr/bin/true"
PART = 64
"""So many effects are done between two looks at the clock."""
FLAGS = os.O_RDWR | os.O_CREAT


class Provoker:
    """Counts what it does, over all requests."""

    def __init__(self, folder: str, port: int) -> None:
        self._folder = folder
        self._port = port
        self.done = {"distinct": 0, "same": 0, "canaries": 0, "execs": 0, "connects": 0}
        os.makedirs(f"{folder}/same")

    def do(self, kind: str) -> None:
        number = self.done[kind]
        if kind == "distinct":
            # 500 files to a folder keep the file system quick.
            if number % 500 == 0:
                os.mkdir(f"{self._folder}/{number // 500}")
            os.close(os.open(f"{self._folder}/{number // 500}/{number}", FLAGS, 0o600))
        elif kind == "same":
            os.close(os.open(f"{self._folder}/same/file", FLAGS, 0o600))
        elif kind == "canaries":
            os.close(os.open(f"{self._folder}/faults-canary-{number}", FLAGS, 0o600))
        elif kind == "execs":
            os.waitpid(os.posix_spawn(TRUE, [TRUE, str(number)], {}), 0)
        else:
            with socket.create_connection(("127.0.0.1", self._port)):
                pass
        self.done[kind] += 1

    def serve(self, request: dict[str, float]) -> None:
        """One request: its effects in turns, so that each kind is spread over the whole time."""
        seconds = request.pop("seconds", 0.0)
        left = {kind: int(count) for kind, count in request.items()}
        total, begun, finished = sum(left.values()), time.monotonic(), 0
        while any(left.values()):
            for kind, count in left.items():
                part = min(count, max(1, PART * int(request[kind]) // total))
                for _ in range(part):
                    self.do(kind)
                left[kind] -= part
                finished += part
            ahead = begun + seconds * finished / total - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)


def main() -> None:
    artifact, folder, port = sys.argv[1:]
    provoker = Provoker(folder, int(port))
    os.close(os.open(artifact, os.O_RDONLY))
    for line in sys.stdin:
        provoker.serve(json.loads(line))
        print(json.dumps(provoker.done), flush=True)


if __name__ == "__main__":
    main()
