"""Children that a load starts and that act only later: one forked, one that runs a program, and a thread.

Ten minutes are compressed into LATER_S: nothing in the agent or its kernel side ends an origin by time.
"""

import os
import subprocess
import sys
import threading
import time

import truth
from witness import in_load

LATER_S = 6.0


def start(label):
    """Called while a checkpoint is unpickled."""
    in_load(label)
    threading.Thread(target=later, args=("thread", label), daemon=True).start()
    subprocess.Popen([sys.executable, __file__, label])
    if os.fork() == 0:
        later("forked", label)
        os._exit(0)
    return label


def later(role, label):
    """Wait, mark, and do what nobody would miss."""
    time.sleep(LATER_S)
    # The server has answered by then. A child of its own has no model, or the one that its parent was loading.
    phase = {"phase": "serve", "model": f"{label}+-"} if role != "thread" else {}
    for _ in range(5):
        truth.mark(role, origin=label, **phase)
    if role == "program":
        subprocess.run(["sh", "-c", ": ten minutes later"])


if __name__ == "__main__":
    later("program", sys.argv[1])
