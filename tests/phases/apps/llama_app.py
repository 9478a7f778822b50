"""The llama.cpp server on one GGUF: ``llama_app.py MODEL PORT``. Its own threads load and answer: Python cannot mark in them."""

import signal
import sys

import truth
import xllamacpp

truth.tick()
truth.mark("main")
parameters = xllamacpp.CommonParams()
parameters.model.path = sys.argv[1]
parameters.n_ctx = 256
parameters.n_parallel = 1
parameters.hostnames = ["127.0.0.1"]
parameters.port = int(sys.argv[2])
parameters.cpuparams.n_threads = 1
parameters.cpuparams_batch.n_threads = 1
with truth.loading_elsewhere("little"):
    server = xllamacpp.Server(parameters)
truth.mark("main")
signal.sigwait({signal.SIGTERM, signal.SIGINT})
truth.stopping()
