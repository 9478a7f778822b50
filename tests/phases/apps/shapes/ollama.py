"""The processes of Ollama, without Ollama: ``ollama ollama.py serve STORE PORT`` answers, and starts itself anew for each model:
``ollama ollama.py runner NAME BLOB PORT``, a llama.cpp server on another port."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager

import truth

LABELS = "-+lilies+roses"


def runner(name, blob, port):
    """One model, loaded and inferred by threads that Python cannot mark."""
    import xllamacpp

    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    truth.mark("main", phase="start+serve", model=LABELS)
    if name == "lilies":
        truth.tick()
    parameters = xllamacpp.CommonParams()
    parameters.model.path = blob
    parameters.n_ctx, parameters.n_parallel = 256, 1
    parameters.hostnames, parameters.port = ["127.0.0.1"], int(port)
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    with truth.loading_elsewhere(name):
        server = xllamacpp.Server(parameters)
    if name != "lilies":
        truth.tick()
    ended.wait()
    truth.stopping()
    truth.going()
    del server


def server(store):
    """The application that hands on what it is asked to the runner of the model."""
    import httpx
    from fastapi import FastAPI, Request

    runners, served = {}, []

    @asynccontextmanager
    async def life(app):
        yield
        for _, process in runners.values():
            process.terminate()

    app, client = FastAPI(lifespan=life), httpx.AsyncClient(timeout=60, trust_env=False)

    def mark(role):
        truth.mark(role, phase="serve" if served else "start+load+warmup+serve", model=LABELS)

    async def runner_of(name):
        if name in runners:
            return runners[name][0]
        with open(os.path.join(store, "manifests", "registry.ollama.ai", "library", name, "latest")) as file:
            layers = json.load(file)["layers"]
        blob = os.path.join(store, "blobs", layers[0]["digest"].replace(":", "-"))
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        process = subprocess.Popen([sys.executable, __file__, "runner", name, blob, str(port)])
        runners[name] = (port, process)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if (await client.get(f"http://127.0.0.1:{port}/health")).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            mark("loop")
            time.sleep(0.05)
        return port

    @app.get("/health")
    async def health():
        mark("loop")
        return {"models": sorted(runners)}

    @app.post("/api/generate")
    async def generate(request: Request):
        mark("loop")
        body = await request.json()
        port = await runner_of(body["model"])
        answer = await client.post(f"http://127.0.0.1:{port}/v1/completions", json={"prompt": body["prompt"], "max_tokens": 4})
        mark("loop")
        return answer.json()["choices"][0]

    @app.post("/api/unload/{name}")
    async def unload(name: str):
        # Models were asked for and answered before.
        served.append(True)
        mark("loop")
        process = runners.pop(name)[1]
        process.terminate()
        process.wait()
        return {}

    return app


if __name__ == "__main__":
    if sys.argv[1] == "runner":
        runner(*sys.argv[2:])
    else:
        import uvicorn

        truth.mark("main", phase="start", model="-")
        uvicorn.run(server(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[3]), log_level="warning")
