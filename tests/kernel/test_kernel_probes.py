"""When probes are attached to frameworks' functions, and that they end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from modelward_agent.probes.table import FAMILIES
from modelward_agent.sensor import Sensor, uprobes
from modelward_agent.sensor.constants import Scope, Trigger

from .conftest import Host, of
from .frameworks import (
    LINEAR,
    LOAD,
    SERVER,
    TESTS,
    Library,
    Server,
    built,
    library,
    marked,
    server,
    transitions,
)

__all__ = ["built", "library", "server"]

pytestmark = pytest.mark.kernel


def _report(sensor: Sensor, family: str) -> str:
    [report] = [report for report in sensor.doors() if report.effect == f"probe:{family}"]
    return f"{report.door}; {report.reason}"


def test_a_probe_on_inference_comes_back_with_the_next_load(server: Server, library: Library) -> None:
    body = f"""
def load():
    os.close(os.open(path, os.O_RDONLY))
    time.sleep(0.4)
wait('{LINEAR}')
load()
call('{LINEAR}')
wait('{LINEAR}', False)
threading.Thread(target=load).start()
wait('{LINEAR}')
"""
    server(body, library("libtorch_cpu.so"))


def test_every_copy_that_is_mapped_is_probed(server: Server, library: Library) -> None:
    one, other = library("libllama.so", folder="one"), library("libllama-0badc0de.so", folder="other")
    server(f"wait('{LOAD}'); wait('{LOAD}', library=loaded[1])", one, other)


def test_a_process_that_becomes_tracked_by_an_artifact_is_probed_then(server: Server, library: Library) -> None:
    body = f"assert not probed('{LOAD}'); os.close(os.open(path, os.O_RDONLY)); wait('{LOAD}')"
    server(body, library("libllama.so"), name="unknown-server")


def test_a_program_with_the_library_linked_into_it_is_probed(host: Host, built: Path, artifact: Path, tmp_path: Path) -> None:
    main = tmp_path / "main.c"
    main.write_text("""
#include <unistd.h>
void *llama_model_load_from_file(const char *path);
int main(int argc, char **argv) {
	for (int i = 0; i < 400 && *(volatile unsigned char *)llama_model_load_from_file != 0xcc; i++) usleep(50000);
	return argc > 1 && llama_model_load_from_file(argv[1]) ? 0 : 1;
}""")
    program = tmp_path / "llama-server"
    subprocess.run(["gcc", "-O1", "-static", "-o", program, main, TESTS / "fake_frameworks.c"], check=True)
    process = subprocess.Popen([program, artifact])
    assert host.finish(process) == 0
    assert [e.asked for e in transitions(host.events(process.pid), Trigger.PROBE_ENTER)] == [LOAD.encode()]


def test_a_library_that_is_none_is_told_and_hurts_nobody(host: Host, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "libcuda.so.1"
    path.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\xff" * 8000)
    body = f"""
fd = os.open({str(path)!r}, os.O_RDONLY)
mapped = mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_EXEC)
time.sleep(3)
"""
    assert of(server(body), "library")
    assert "libcuda.so.1" in _report(host.sensor, "cuda")


@pytest.fixture
def another_host(host: Host) -> Iterator[Host]:
    """Where probes are attached one by one, as before Linux 6.6."""
    host.sensor.tick()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uprobes, "for_many", lambda: False)
        sensor = Sensor.open(watch=["single-server"])
        try:
            yield Host(sensor)
        finally:
            sensor.close()


def test_probes_work_one_by_one_too(
    another_host: Host, library: Library, artifact: Path, tmp_path: Path,
) -> None:
    script = tmp_path / "single-server"
    script.write_text(SERVER + f"wait('{LOAD}'); wait('{LINEAR}', library=loaded[1]); call('{LOAD}', path); run('after')")
    process = subprocess.Popen([sys.executable, "-S", script, artifact, library("libllama.so"), library("libtorch_cpu.so")])
    code = another_host.finish(process, timeout=150)
    assert code == 0, [report for report in another_host.sensor.doors() if report.effect.startswith("probe:")]
    events = another_host.events(process.pid)
    assert [e.asked for e in transitions(events, Trigger.PROBE_ENTER, Trigger.PROBE_RETURN)] == [LOAD.encode()] * 2
    assert marked(events, "after").scope == Scope.NONE


def test_a_server_that_runs_already_is_probed(library: Library, artifact: Path, tmp_path: Path) -> None:
    script = tmp_path / "earlier-server"
    script.write_text(SERVER + f"sys.stdout.write('ready\\n'); sys.stdout.flush(); wait('{LOAD}'); call('{LOAD}', path)")
    process = subprocess.Popen([sys.executable, "-S", script, artifact, library("libllama.so")], stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    sensor = Sensor.open(watch=["earlier-server"])
    try:
        late = Host(sensor)
        assert late.finish(process, timeout=150) == 0
        assert [e.asked for e in transitions(late.events(process.pid), Trigger.PROBE_ENTER)] == [LOAD.encode()]
    finally:
        process.stdout.close()
        sensor.close()


def test_probes_end_with_the_sensor(library: Library, artifact: Path, tmp_path: Path) -> None:
    script = tmp_path / "last-server"
    script.write_text(SERVER + f"wait('{LOAD}'); sys.stdout.write('probed\\n'); sys.stdout.flush(); wait('{LOAD}', False)")
    sensor = Sensor.open(watch=["last-server"])
    process = subprocess.Popen([sys.executable, "-S", script, artifact, library("libllama.so")], stdout=subprocess.PIPE)
    assert process.stdout
    try:
        late = Host(sensor)
        for _ in range(4000):
            late.pump()
            if "uprobe:" in _report(sensor, "llama.cpp"):
                break
        assert process.stdout.readline() == b"probed\n"
    finally:
        sensor.close()
    assert process.wait(30) == 0
    process.stdout.close()


@pytest.mark.parametrize("of", ["host", "another_host"])
def test_the_check_proves_probes_of_every_family(request: pytest.FixtureRequest, of: str) -> None:
    told = request.getfixturevalue(of).sensor.prove_probes()
    assert [report.effect for report in told] == [f"probe:{family.name}" for family in FAMILIES]
    assert all(report.proven for report in told), told
    assert all("calls and returns" in report.door for report in told) or uprobes.returns_refused(), told
