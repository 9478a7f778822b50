"""``hostile_names.py ARTIFACT FOLDER HEX...``: open an artifact, then open, connect and start things under
the given names (hex of raw bytes).
"""

from __future__ import annotations

import os
import subprocess
import sys


def main() -> None:
    artifact, folder, *names = (os.fsencode(argument) for argument in sys.argv[1:])
    os.close(os.open(artifact, os.O_RDONLY))
    for name in names:
        raw = bytes.fromhex(name.decode())
        os.close(os.open(folder + b"/" + raw, os.O_RDWR | os.O_CREAT, 0o600))
        subprocess.run([b"/usr/bin/true", raw], check=True)


if __name__ == "__main__":
    main()
