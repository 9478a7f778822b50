"""``opens.py ARTIFACT FOLDER COUNT distinct|same [STOPS]``: become tracked by opening an artifact, then open
files, and say how many opens there were.

With STOPS, the opens are done in as many equal parts, and before each part after the first a line is awaited
on standard input.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    artifact, folder, count, mode, *stops = sys.argv[1:]
    parts = int(stops[0]) if stops else 1
    os.close(os.open(artifact, os.O_RDONLY))
    # 500 files to a folder keep the file system quick
    for number in range(0, int(count), 500):
        os.makedirs(f"{folder}/{number // 500}", exist_ok=True)
    flags, mode_bits, done = os.O_RDWR | os.O_CREAT, 0o600, 0
    for part in range(parts):
        if part:
            sys.stdin.readline()
        for number in range(part * int(count) // parts, (part + 1) * int(count) // parts):
            path = f"{folder}/{number // 500}/{number}" if mode == "distinct" else f"{folder}/0/only"
            os.close(os.open(path, flags, mode_bits))
            done += 1
        print(done, flush=True)


if __name__ == "__main__":
    main()
