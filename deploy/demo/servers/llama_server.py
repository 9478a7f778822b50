"""A llama.cpp server on one GGUF: ``llama_server.py MODEL PORT``. Runs until SIGTERM or SIGINT."""

from __future__ import annotations

import signal
import sys

import xllamacpp  # type: ignore[import-not-found,import-untyped,unused-ignore]


def main() -> None:
    model, port = sys.argv[1:]
    parameters = xllamacpp.CommonParams()
    parameters.model.path = model
    parameters.n_ctx = 256
    parameters.n_parallel = 1
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = int(port)
    parameters.cpuparams.n_threads = 1
    parameters.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(parameters)
    print(f"listening on {server.listening_address}", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
