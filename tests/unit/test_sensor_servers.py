"""The shipped lists, and how a command line is held against them. That the kernel decides the same is tested
in tests/kernel."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from modelward_agent.sensor import SensorError
from modelward_agent.sensor.adopt import running_servers
from modelward_agent.sensor.servers import (
    AS_EXCLUDED,
    AS_MODULE,
    AS_PROGRAM,
    AS_SCRIPT,
    AS_WORKER,
    EXT_MODEL_BIN,
    EXT_NOT_SITE,
    EXTENSION_SIZE,
    NAME_SIZE,
    is_server,
    lists,
)

_NAMES = lists().programs
_STATE = (Path(__file__).parents[2] / "agent/bpf/state.h").read_text()


def _of(how: int) -> list[str]:
    return sorted(name.decode() for name, value in _NAMES.items() if value & how)


@pytest.mark.parametrize("name", _of(AS_PROGRAM))
def test_a_listed_program_is_a_server(name: str) -> None:
    assert is_server(b"/opt/bin/" + name.encode(), [b"whatever"], _NAMES)


@pytest.mark.parametrize("name", _of(AS_SCRIPT))
def test_a_listed_script_is_a_server_when_python_runs_it(name: str) -> None:
    script = b"/venv/bin/" + name.encode()
    assert is_server(b"/usr/bin/python3.11", [b"python", b"-u", b"-W", b"ignore", script, b"--port", b"1"], _NAMES)
    assert not is_server(b"/usr/bin/less", [b"less", script], _NAMES)


@pytest.mark.parametrize("name", _of(AS_MODULE))
def test_a_listed_module_is_a_server_when_python_runs_it(name: str) -> None:
    assert is_server(b"/usr/bin/python3", [b"python3", b"-m", name.encode()], _NAMES)
    assert is_server(b"/usr/bin/pypy3", [b"pypy3", b"-um", name.encode()], _NAMES)
    assert not is_server(b"/usr/bin/python3", [b"python3", b"-m", b"pip", b"install", name.encode()], _NAMES)


@pytest.mark.parametrize("name", _of(AS_WORKER))
def test_a_worker_is_no_server_by_itself(name: str) -> None:
    assert not is_server(b"/usr/bin/python3", [b"python3", b"-m", name.encode()], _NAMES)
    assert not is_server(b"/usr/bin/python3", [b"python3", b"/venv/" + name.encode()], _NAMES)


@pytest.mark.parametrize("arguments", [
    [b"python", b"-c", b"uvicorn"], [b"python", b"app.py", b"uvicorn"], [b"python"], [], [b"python", b"-m"], [b"python", b"-"],
    [b"python", b"-X", b"uvicorn"],
])
def test_a_server_named_elsewhere_on_the_command_line_is_not_one(arguments: list[bytes]) -> None:
    assert not is_server(b"/usr/bin/python3", arguments, _NAMES)


def test_a_watched_name_counts_as_program_script_and_module_and_is_not_excluded() -> None:
    names = lists(["mine", "tar"]).programs
    assert names[b"mine"] == AS_PROGRAM | AS_SCRIPT | AS_MODULE
    assert not names[b"tar"] & AS_EXCLUDED


@pytest.mark.parametrize("name", ["", "a/b", "x" * NAME_SIZE])
def test_a_name_that_cannot_be_watched_is_refused(name: str) -> None:
    with pytest.raises(SensorError, match="--watch"):
        lists([name])


def test_every_name_fits_the_kernels_keys() -> None:
    shipped = lists()
    assert all(0 < len(name) < NAME_SIZE for name in (*shipped.programs, *shipped.credentials))
    assert all(0 < len(extension) < EXTENSION_SIZE - 1 for extension in shipped.extensions)
    assert all(extension == extension.lower() for extension in shipped.extensions)


def test_no_program_is_both_a_server_and_excluded() -> None:
    assert not [name for name, how in _NAMES.items() if how & AS_EXCLUDED and how != AS_EXCLUDED]


def test_numbers_are_those_of_the_kernel_side() -> None:
    flags = {n: 1 << int(bit) for n, bit in re.findall(r"#define MW_((?:AS|EXT)_\w+)\s+\(1u << (\d+)\)", _STATE)}
    assert flags == {
        "AS_PROGRAM": AS_PROGRAM, "AS_SCRIPT": AS_SCRIPT, "AS_MODULE": AS_MODULE, "AS_EXCLUDED": AS_EXCLUDED,
        "AS_WORKER": AS_WORKER,
        "EXT_MODEL_BIN": EXT_MODEL_BIN, "EXT_NOT_SITE": EXT_NOT_SITE,
    }
    sizes = {n: int(v) for n, v in re.findall(r"#define MW_(NAME|EXTENSION)\s+(\d+)", _STATE)}
    assert sizes == {"NAME": NAME_SIZE, "EXTENSION": EXTENSION_SIZE}


def test_a_command_line_that_hangs_does_not_hold_up_the_start(tmp_path: Path) -> None:
    running = (7, "/usr/bin/python3", None), (8, "/opt/llama-server", b"llama-server\0-m\0m.gguf\0"), (9, "/usr/bin/id", b"id\0")
    for pid, program, line in running:
        folder = tmp_path / str(pid)
        folder.mkdir()
        (folder / "stat").write_bytes(b"%d (x) S 1 " % pid + b" ".join([b"0"] * 17) + b" 4200 0\n")
        (folder / "exe").symlink_to(program)
        if line is None:
            os.mkfifo(folder / "cmdline")  # waits for a writer, as a read of a process's memory may wait
        else:
            (folder / "cmdline").write_bytes(line)
    found = list(running_servers(lists(), tmp_path))
    os.close(os.open(tmp_path / "7" / "cmdline", os.O_RDWR | os.O_NONBLOCK))
    assert found == [8]
