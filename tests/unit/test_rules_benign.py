"""No shipped rule fires on what real model servers do in each phase (the benign effects of the servers'
survey).

One row an effect, as the agent sends it; classes are computed from paths and addresses as they are in a
receiver.
"""

from __future__ import annotations

import polars as pl
import pytest
from modelward_collector.rules.judge import BatchName, Judge
from modelward_collector.rules.self_tests import frame

Row = dict[str, str | int | float | bool]

PY = "/usr/bin/python3.11"
GCC = "/usr/bin/x86_64-linux-gnu-gcc-12"
STUB = "/opt/tritonserver/backends/python/triton_python_backend_stub"
TRITON = "/opt/tritonserver/bin/tritonserver"
OPEN = {"lifecycle.phase": "load", "lifecycle.scope": "open"}
TAIL = {"lifecycle.phase": "warmup", "lifecycle.scope": "tail"}
START = {"lifecycle.phase": "start"}
WARMUP = {"lifecycle.phase": "warmup"}
SERVE = {"lifecycle.phase": "serve"}
STOP = {"lifecycle.phase": "stop"}
FORKED = {"lifecycle.origin.phase": "load", "lifecycle.origin.scope": "tail", "lifecycle.origin.via": "fork"}
FORKED_SOON = {**FORKED, "lifecycle.origin.scope": "open", "process.entry": "server"}
THREAD = {**FORKED, "lifecycle.origin.via": "thread"}
THREAD_IN_LOAD = {**THREAD, "lifecycle.origin.scope": "open", "process.entry": "server"}
ENTERED = {"process.entry": "entered"}


def run(path: str, line: str, *, chain: str = "", parent: str = PY, **more: str | int | float | bool) -> Row:
    name = path.rpartition("/")[2]
    return {
        "event.name": "exec",
        "process.entry": "child",
        "process.executable.path": path,
        "process.executable.asked": path,
        "process.command_line": line,
        "process.parent.executable.path": parent,
        "process.chain": chain or f"python3.11 > {name}",
        "file.links": 1,
        "process.executable.age_s": 1e7,
        **{key.replace("__", "."): value for key, value in more.items()},
    }


def opened(path: str, access: str = "read", **more: str | int | float | bool) -> Row:
    return {
        "event.name": "file_open",
        "file.path": path,
        "file.access": access,
        "process.executable.path": PY,
        "process.entry": "server",
        "process.chain": "python3.11",
        **{key.replace("__", "."): value for key, value in more.items()},
    }


def connected(address: str, port: int, transport: str = "tcp") -> Row:
    return {
        "event.name": "connect",
        "destination.address": address,
        "destination.port": port,
        "network.transport": transport,
        "destination.first_seen": True,
        "process.executable.path": PY,
        "process.entry": "server",
        "process.chain": "python3.11",
    }


SPAWN = (
    "python3.11 -c 'from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=8, pipe_handle=17)' "
    "--multiprocessing-fork"
)
TRACKER = "python3.11 -c 'from multiprocessing.resource_tracker import main;main(7)'"
FORKSERVER = (
    r"python3.11 -c 'from multiprocessing.forkserver import main; main(4, 5, [\x27__main__\x27], "
    r"**{\x27sys_path\x27: [\x27/srv\x27], \x27main_path\x27: \x27/srv/a.py\x27})'"
)
LOKY_TRACKER = "python3.11 -c 'from joblib.externals.loky.backend.resource_tracker import main; main(8, False)'"
LOKY = "python3.11 -m joblib.externals.loky.backend.popen_loky_posix --process-name LokyProcess-1 --pipe 11"
VECTOR_CHECK = (
    r"python3.11 -c '\x0aimport torch\x0afrom ctypes import cdll\x0a"
    r"""cdll.LoadLibrary("/tmp/torchinductor_u/x/y.so")\x0a'"""
)
RAY_WORKER = "bash -c 'exec python3.11 /app/ray/_private/workers/default_worker.py --node-ip-address=10.0.0.4'"

COMPILE = [
    run(PY, VECTOR_CHECK),
    run(
        "/usr/bin/x86_64-linux-gnu-g++-12",
        "g++ /tmp/torchinductor_u/x/k.cpp -shared -fPIC -O3 -o /tmp/torchinductor_u/x/k.so",
    ),
    run(
        "/usr/libexec/gcc/x86_64-linux-gnu/12/cc1plus",
        "cc1plus -quiet k.cpp",
        parent=GCC,
        chain="python3.11 > x86_64-linux-gnu-g++-12 > cc1plus",
    ),
    run("/usr/bin/x86_64-linux-gnu-as", "as --64 -o /tmp/ccA1.o /tmp/ccA2.s", parent=GCC),
    run("/usr/libexec/gcc/x86_64-linux-gnu/12/collect2", "collect2 -shared", parent=GCC),
    run(
        "/usr/bin/x86_64-linux-gnu-ld.bfd",
        "ld -shared",
        parent="/usr/libexec/gcc/x86_64-linux-gnu/12/collect2",
    ),
    run("/usr/bin/openssl", "openssl version"),
    run("/app/triton/backends/nvidia/bin/ptxas", "ptxas -lineinfo -v --gpu-name=sm_90 /tmp/tmp1.ptx"),
    run("/usr/bin/ninja", "ninja -v", chain="python3.11 > ninja"),
    run(
        "/usr/bin/dash",
        "/bin/sh -c '/usr/bin/c++ -MMD -MF a.o.d -fPIC -c a.cpp -o a.o'",
        parent="/usr/bin/ninja",
        chain="python3.11 > ninja > dash",
    ),
    run(
        GCC,
        "c++ -c a.cpp",
        parent="/usr/bin/dash",
        chain="python3.11 > ninja > dash > x86_64-linux-gnu-gcc-12",
    ),
    opened("/tmp/torchinductor_u/x/k.cpp", "write", file__created=True),
    opened("/root/.triton/cache/ABC/k.cubin", "write", file__created=True),
    opened("/root/.cache/flashinfer/90/cached_ops/b.so", "write", file__created=True),
    opened("/srv/__pycache__/f.kernel-12.py311.1.nbc", "write", file__created=True),
    opened("/tmp/ccA2.s", "write", file__created=True),
    opened("/tmp/torchinductor_u/x/k.so"),
]
FIND_LIBRARY = [
    run("/usr/sbin/ldconfig", "/sbin/ldconfig -p"),
    run(GCC, "gcc -Wl,-t -o /tmp/tmp1 -lgomp"),
    run("/usr/bin/x86_64-linux-gnu-ld.bfd", "ld -t -o /dev/null -lgomp"),
    run("/usr/bin/x86_64-linux-gnu-objdump", "objdump -p -j .dynamic /lib/x86_64-linux-gnu/libgomp.so.1"),
    # where ldconfig is a shell script
    run("/usr/bin/dash", "/bin/sh /sbin/ldconfig -p", process__executable__asked="/sbin/ldconfig"),
    run("/usr/sbin/ldconfig.real", "/sbin/ldconfig.real -p", parent=PY),
]
WORKERS = [run(PY, line) for line in (SPAWN, TRACKER, FORKSERVER, LOKY_TRACKER, LOKY)]
TRITON_STUB = [
    run("/usr/bin/dash", f"sh -c '{STUB} > /dev/null 2>&1'", parent=TRITON, chain="tritonserver > dash"),
    run(
        "/usr/bin/bash",
        f"bash -c ' exec {STUB} /models/m/1/model.py triton_shm 1048576'",
        parent=TRITON,
        chain="python3.11 > tritonserver > bash",
    ),
    run(
        STUB,
        f"{STUB} /models/m/1/model.py triton_shm 1048576",
        parent=TRITON,
        chain="python3.11 > tritonserver > triton_python_backend_stub",
    ),
    {"event.name": "exit", "process.exit.code": 1, "process.executable.path": "/usr/bin/dash"},
    opened("/tmp/folderKq2zZt/1/model.py", "write", file__created=True),
    opened("/tmp/folderKq2zZt/1/__pycache__/model.cpython-311.pyc", "write", file__created=True),
]
NAMES = [
    connected("10.0.0.2", 53, "udp"),
    connected("8.8.8.8", 53, "udp"),
    connected("fd00::53", 53, "udp"),
    connected("127.0.0.53", 53, "udp"),
]
PROBES = [
    {**row, **ENTERED}
    for row in (
        run("/usr/bin/dash", "sh -c 'curl -sf localhost:8000/health'", chain="dash"),
        run("/usr/bin/curl", "curl -sf localhost:8000/health", parent="/usr/bin/dash", chain="dash > curl"),
        {**connected("127.0.0.1", 8000), "process.executable.path": "/usr/bin/curl"},
        {**connected("127.0.0.1", 8000), "process.executable.path": "/usr/bin/bash"},
        run(
            "/memfd:runc_cloned:/proc/self/exe",
            "runc init",
            chain="runc",
            process__executable__memfd=True,
            process__executable__on_tmpfs=True,
            process__executable__newer_than_root=True,
        ),
        run("/usr/local/bin/py-spy", "py-spy dump --pid 7", chain="py-spy"),
        run("/usr/bin/gdb", "gdb -p 7", chain="gdb"),
        opened("/root/.bashrc"),
    )
]

BY_HAND = [
    run("/usr/bin/vim", "vim /root/.bashrc", parent="/usr/bin/bash", chain="bash > vim"),
    run("/usr/bin/curl", "curl -I https://example.org", parent="/usr/bin/bash", chain="bash > curl"),
    run("/root/a.out", "./a.out", parent="/usr/bin/bash", chain="bash > a.out", process__executable__newer_than_root=True),
    opened(
        "/root/.bashrc", "write", process__executable__path="/usr/bin/vim", process__chain="bash > vim", process__entry="child"
    ),
    opened("/root/.ssh/id_rsa", process__executable__path="/usr/bin/ssh", process__chain="bash > ssh", process__entry="child"),
]
READERS = [
    {
        **connected("52.1.2.3", 443),
        "process.executable.path": "/usr/bin/rclone",
        "process.entry": "reader",
        "process.chain": "rclone",
    },
    opened("/root/.config/rclone/rclone.conf", process__executable__path="/usr/bin/rclone", process__entry="reader"),
    {**connected("52.1.2.3", 443), "process.command_line": "python3 /usr/local/bin/aws s3 cp m.safetensors s3://b/m"},
    opened("/root/.aws/credentials", process__command_line="python3 /usr/local/bin/aws s3 cp m.safetensors s3://b/m"),
]

START_EFFECTS = [
    *FIND_LIBRARY,
    *WORKERS,
    *NAMES,
    run("/usr/bin/uname", "uname -p"),
    run("/app/ray/core/src/ray/gcs/gcs_server", "gcs_server --session-name=s"),
    run("/app/ray/core/src/ray/raylet/raylet", "raylet --node_ip_address=10.0.0.4"),
    run(TRITON, "tritonserver --model-repository=/tmp/ws"),
    run(
        "/usr/bin/bash",
        RAY_WORKER,
        parent="/app/ray/core/src/ray/raylet/raylet",
        chain="python3.11 > raylet > bash",
    ),
    run("/usr/bin/bash", "bash /root/.pyenv/libexec/pyenv exec python a.py", process__stdio_socket=True),
    run("/usr/bin/readlink", "readlink /root/.pyenv/shims/python", parent="/usr/bin/bash"),
    run(
        "/app/llamafile",
        "llamafile -m a.gguf",
        process__executable__on_tmpfs=True,
        process__executable__newer_than_root=True,
    ),
    opened("/dev/shm/psm_1a2b", "read_write", file__created=True),
    opened("/tmp/prometheus/gauge_all_7.db", "read_write", file__created=True),
    opened("/proc/4711/oom_score_adj", "write"),
    opened("/root/.cache/huggingface/token"),
    opened("/root/.aws/credentials"),
    opened("/app/lib/python3.11/site-packages/distutils-precedence.pth"),
    opened("/etc/passwd"),
    connected("169.254.169.254", 80),
    connected("8.8.8.8", 53),
    connected("8.8.8.8", 80, "udp"),
    connected("127.0.0.1", 6379),
    connected("::1", 6379),
    connected("0.0.0.0", 8000),
    connected("10.0.0.4", 6379),
    {"event.name": "listen", "destination.address": "0.0.0.0", "destination.port": 8000},
]
LOAD_EFFECTS = [
    *TRITON_STUB,
    *NAMES,
    *FIND_LIBRARY,
    *WORKERS,
    opened("/usr/lib/x86_64-linux-gnu/libgomp.so.1"),
    opened("/app/lib/python3.11/site-packages/sklearn/tree/_tree.cpython-311-x86_64-linux-gnu.so"),
    opened("/app/lib/python3.11/site-packages/sklearn/__init__.py"),
    opened(
        "/app/lib/python3.11/site-packages/sklearn/__pycache__/__init__.cpython-311.pyc.140",
        "write",
        file__created=True,
    ),
    opened("/proc/cpuinfo"),
    opened("/proc/self/maps"),
    opened("/sys/devices/system/cpu/online"),
    opened("/proc/self/comm", "write"),
    opened("/srv/models/m.joblib"),
    opened("/root/.cache/huggingface/hub/models--a--b/blobs/9f86d0"),
    opened("/root/.cache/huggingface/hub/models--a--b/snapshots/1/tokenizer.json"),
    opened("/root/.cache/huggingface/token"),
    opened("/etc/passwd"),
    opened("/etc/ssl/certs/ca-certificates.crt"),
    opened("/etc/hosts"),
    opened("/etc/ld.so.cache"),
    opened("/root/.cache/Microsoft/DeveloperTools/x.db", "read_write", file__created=True),
    connected("127.0.0.1", 6006),
    connected("93.184.216.34", 443, "udp"),
    {"event.name": "fork"},
    {"event.name": "lifecycle", "file.path": "/srv/models/m.joblib", "model.instance": 7},
]
WARMUP_EFFECTS = [
    *COMPILE,
    *FIND_LIBRARY,
    *WORKERS,
    *NAMES,
    run(PY, "python3.11 -c 'import platform; platform.machine()'"),
    opened("/dev/shm/psm_1a2b", "read_write", file__created=True),
    connected("127.0.0.1", 8000),
]
SERVE_EFFECTS = [
    *TRITON_STUB,
    *COMPILE,
    *WORKERS,
    *NAMES,
    opened("/tmp/prometheus/counter_7.db", "read_write"),
    opened("/tmp/metrics.prom", "write", file__created=True),
    opened("/srv/models/second.gguf"),
    opened("/dev/nvidia0", "read_write"),
    opened("/proc/meminfo"),
    opened("/proc/self/stat"),
    opened("/var/run/secrets/kubernetes.io/serviceaccount/token"),
    opened("/root/.cache/huggingface/token"),
    opened("/root/.netrc"),
    run(
        "/usr/local/bin/ollama",
        "ollama runner --model /m --port 4",
        parent="/usr/local/bin/ollama",
        chain="ollama > ollama",
    ),
    run(
        "/opt/conda/envs/a/bin/python3.11",
        LOKY,
        parent="/opt/conda/envs/a/bin/python3.11",
        file__links=3,
        process__executable__newer_than_root=True,
    ),
    run("/usr/bin/nvidia-smi", "nvidia-smi --query-gpu=name"),
    run(
        "/usr/bin/bash",
        RAY_WORKER,
        parent="/app/ray/core/src/ray/raylet/raylet",
        chain="python3.11 > raylet > bash",
    ),
    connected("127.0.0.1", 8001),
    connected("10.0.0.9", 5432),
    connected("52.1.2.3", 443),
    {**connected("169.254.169.254", 80), "destination.first_seen": False},
]
STOP_EFFECTS = [
    *NAMES,
    {"event.name": "exit", "process.exit.code": -1, "process.exit.signal": 15},
    {"event.name": "exit", "process.exit.code": 1},
    opened("/tmp/prometheus/counter_7.db", "read_write"),
    {"event.name": "lifecycle", "lifecycle.trigger": "signal"},
]

CASES: dict[str, list[Row]] = {
    "start": [{**row, **START} for row in START_EFFECTS],
    "load, in its scope": [{**row, **OPEN} for row in LOAD_EFFECTS],
    "load, in its tail": [{**row, **TAIL} for row in LOAD_EFFECTS],
    "load, by another thread of the process": [{**row, "lifecycle.phase": "load"} for row in [*LOAD_EFFECTS, *SERVE_EFFECTS]],
    "warmup and first inference, in the loading thread": [{**row, **TAIL} for row in WARMUP_EFFECTS],
    "warmup and first inference, in another thread": [{**row, **WARMUP} for row in WARMUP_EFFECTS],
    "serve": [{**row, **SERVE} for row in [*SERVE_EFFECTS, *WARMUP_EFFECTS]],
    "serve, in workers forked from a preloaded master": [{**row, **SERVE, **FORKED} for row in [*SERVE_EFFECTS, *WARMUP_EFFECTS]],
    "serve, in workers forked at once after the load": [
        {**row, **SERVE, **FORKED_SOON} for row in SERVE_EFFECTS if row["event.name"] != "exec"
    ],
    "serve, in pool threads made in the tail": [{**row, **SERVE, **THREAD} for row in [*SERVE_EFFECTS, *WARMUP_EFFECTS]],
    "serve, in threads that an import made in the load": [
        {**row, **SERVE, **THREAD_IN_LOAD}
        for row in [*NAMES, opened("/root/.cache/Microsoft/x.db", "read_write"), connected("127.0.0.1", 1)]
    ],
    "serve, compilers below workers of a preloaded master": [
        {**row, **SERVE, **FORKED_SOON, "process.entry": "child"} for row in [*COMPILE, *WORKERS]
    ],
    "stop": [{**row, **STOP} for row in STOP_EFFECTS],
    "stop, orphans that go on serving": [{**row, **STOP} for row in SERVE_EFFECTS],
    "probes and debuggers that enter, in serve": [{**row, **SERVE} for row in PROBES],
    "probes and debuggers that enter, in load": [{**row, **OPEN} for row in PROBES],
    "a person's shell that read a model file, in its scope": [{**row, **TAIL} for row in BY_HAND],
    "a person's shell that read a model file, afterwards": [{**row, **WARMUP} for row in BY_HAND],
    "programs that copy a model file": [{**row, **OPEN} for row in READERS],
    "probes and debuggers that enter, in start": [{**row, **START} for row in PROBES],
}


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge([])


@pytest.mark.parametrize("case", CASES)
def test_no_rule_fires_on_benign_effects_of(case: str, judge: Judge) -> None:
    rows = CASES[case]
    events = judge.classify(frame(rows).drop("row")).with_row_index("row")
    found = judge.judge(events, BatchName("h", "a", "e", 1))
    fired = [(d["rule_name"], rows[int(d["events"][0].rpartition("/")[2])]) for d in found.iter_rows(named=True)]
    assert not fired
    assert not judge.problems()


def test_every_event_kind_of_a_server_is_among_the_effects() -> None:
    kinds = {str(row["event.name"]) for rows in CASES.values() for row in rows}
    assert kinds == {"exec", "fork", "exit", "file_open", "connect", "listen", "lifecycle"}


def test_rows_are_classified_before_they_are_judged(judge: Judge) -> None:
    events = judge.classify(frame([run("/usr/bin/dash", "sh -c id")]))
    assert events.select(pl.col("process_executable_class").cast(pl.String)).item() == "shell"
