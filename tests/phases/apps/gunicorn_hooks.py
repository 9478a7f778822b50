"""Settings of gunicorn: workers that were forked after the load come out of its tail, since the master never answers."""

import os

import truth

PRELOAD = bool(os.environ.get("PRELOAD"))


def post_fork(server, worker):
    if PRELOAD:
        truth.origins["*"] = "-+iris~"
        truth.tick()
        truth.mark("main")
