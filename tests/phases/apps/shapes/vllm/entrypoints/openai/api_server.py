"""The processes of vLLM, without vLLM: this one listens before anything is loaded, and answers; spawned workers load and infer.

``python -m vllm.entrypoints.openai.api_server --model FOLDER --port PORT``
"""

import asyncio
import multiprocessing
import os
import sys
from contextlib import asynccontextmanager

import truth

WORKERS = 2


def worker(pipe, model):
    """One of a tensor-parallel group: it reads every shard, and then does what it is told through a pipe, all in one thread."""
    from safetensors import safe_open

    # Its sibling may be further: until this process has a model of its own, it is in what its server is in.
    truth.mark("main", phase="start+load+warmup", model="-+lilies")
    weights = {}

    def load(folder):
        with truth.loading(os.path.basename(folder), "main"):
            for name in sorted(name for name in os.listdir(folder) if name.endswith(".safetensors")):
                with safe_open(os.path.join(folder, name), framework="pt") as file:
                    weights.update((key, file.get_tensor(key)) for key in file.keys())  # noqa: SIM118

    load(model)
    # By the thread that has just loaded: it comes out of the load, if that was read from within 100 ms, or out of its tail.
    truth.tick(origin="lilies+lilies~")
    pipe.send("loaded")
    while True:
        what, argument = pipe.recv()
        if what == "stop":
            return
        truth.mark("request")
        if what == "adapter":
            load(argument)
            pipe.send("loaded")
        else:
            pipe.send(sum(float(weight.sum()) for weight in weights.values()))


def server(model):
    """The application, and the processes behind it."""
    from fastapi import FastAPI, HTTPException, Request

    context = multiprocessing.get_context("spawn")
    pairs = [context.Pipe() for _ in range(WORKERS)]
    served = []
    turn = asyncio.Lock()

    def mark(role):
        # This process never loads: what it is in is certain once it has answered for the model.
        truth.mark(role, phase="serve" if served else "start+load+warmup+serve", model="-+lilies+petals")

    async def heard():
        return [await asyncio.to_thread(pipe.recv) for pipe, _ in pairs]

    async def tell(what, argument=None):
        async with turn:
            for pipe, _ in pairs:
                pipe.send((what, argument))
            return await heard()

    @asynccontextmanager
    async def life(app):
        processes = [context.Process(target=worker, args=(theirs, model)) for _, theirs in pairs]
        for process in processes:
            process.start()
        app.state.loading = asyncio.create_task(heard())
        yield
        for pipe, _ in pairs:
            pipe.send(("stop", None))
        for process in processes:
            process.join()

    app = FastAPI(lifespan=life)

    @app.get("/health")
    async def health():
        mark("loop")
        if not app.state.loading.done():
            raise HTTPException(503, "loading")
        return {}

    @app.post("/v1/completions")
    async def completions():
        mark("loop")
        sums = await tell("infer")
        return {"sums": sums}

    @app.post("/v1/load_lora_adapter")
    async def adapter(request: Request):
        # The first completion was answered before its client asked for this.
        served.append(True)
        mark("loop")
        await tell("adapter", (await request.json())["lora_path"])
        return {}

    return app


if __name__ == "__main__":
    import uvicorn

    truth.mark("main", phase="start", model="-")
    given = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    uvicorn.run(server(given["--model"]), host="127.0.0.1", port=int(given["--port"]), log_level="warning")
