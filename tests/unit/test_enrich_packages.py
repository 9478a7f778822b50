"""What a process uses, from its maps and the metadata beside it; and which GPUs it holds. Folders made as package managers do."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelward_agent.enrich.gpus import held_gpus, joined
from modelward_agent.enrich.packages import Used, look_up, mapped_files
from modelward_agent.enrich.runtime import Runtime, guess, join, recognise, shown
from modelward_agent.identity.opening import Place

PYTHON = b"/usr/bin/python3.11"
SITE = "opt/venv/lib/python3.11/site-packages"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / SITE).mkdir(parents=True)
    return tmp_path


def install(root: Path, *names: str, site: str = SITE) -> None:
    for name in names:
        (root / site / name).mkdir(parents=True)


def used(
    root: Path, *mapped: str, program: bytes = PYTHON, line: str = "python app.py", cwd: str = "/srv", asked: str = ""
) -> Used:
    place = Place(os.open(root, os.O_PATH | os.O_DIRECTORY))
    try:
        arguments = [word.encode() for word in line.split()]
        return look_up(place, [path.encode() for path in mapped], program, arguments, cwd.encode(), asked.encode())
    finally:
        place.close()


def runtime(root: Path, *mapped: str, program: bytes = PYTHON, line: str = "python app.py", **more: str) -> tuple[str, str]:
    arguments = [word.encode() for word in line.split()]
    found = used(root, *mapped, program=program, line=line, **more)
    return shown(recognise(guess(program.decode(), arguments), program.decode(), found))


@pytest.mark.parametrize(
    ("line", "mapped", "installed", "name", "version"),
    [
        ("/opt/venv/bin/python /opt/venv/bin/uvicorn app:app", (), ("uvicorn-0.54.0.dist-info",), "uvicorn", "0.54.0"),
        ("/opt/venv/bin/python /opt/venv/bin/uvicorn app:app", ("torch/lib/libtorch_cpu.so",),
         ("uvicorn-0.54.0.dist-info", "torch-2.13.0+cpu.dist-info"), "uvicorn + torch", "0.54.0 + 2.13.0+cpu"),
        ("/opt/venv/bin/python -m uvicorn app:app",
         ("sklearn/_isotonic.cpython-311-x86_64-linux-gnu.so", "xgboost/lib/libxgboost.so"),
         ("uvicorn-0.54.0.dist-info", "scikit_learn-1.9.1.dist-info"), "uvicorn + xgboost + scikit-learn", "0.54.0 + ? + 1.9.1"),
        ("/opt/venv/bin/python /opt/venv/bin/gunicorn app", ("tensorflow/libtensorflow_framework.so.2",),
         ("gunicorn-27.0.0.dist-info", "tensorflow_cpu-2.21.0.dist-info"), "gunicorn + tensorflow", "27.0.0 + 2.21.0"),
        ("/opt/venv/bin/python /opt/venv/bin/vllm serve x", ("torch/lib/libtorch_cpu.so",),
         ("vllm-0.11.0.dist-info",), "vllm", "0.11.0"),
        ("/opt/venv/bin/python api_server.py", ("vllm/_C.abi3.so",), ("vllm-0.11.0.dist-info",), "vllm", "0.11.0"),
        ("/opt/venv/bin/python -m sglang.launch_server", (), ("sglang-0.5.3.post1.dist-info",), "sglang", "0.5.3.post1"),
        ("/opt/venv/bin/python /opt/venv/bin/text-generation-server serve", (),
         ("text_generation_server-2.0.4.dist-info",), "tgi", "2.0.4"),
        ("/opt/venv/bin/python /opt/venv/bin/mlserver start .", (), ("mlserver-1.7.1.dist-info",), "mlserver", "1.7.1"),
        ("/opt/venv/bin/python /opt/venv/bin/bentoml serve", (), ("bentoml-1.4.40.dist-info",), "bentoml", "1.4.40"),
        ("/opt/venv/bin/python /opt/venv/lib/python3.11/site-packages/ray/_private/workers/default_worker.py",
         ("ray/_raylet.so",),
         ("ray-2.60.0.dist-info",), "ray serve", "2.60.0"),
        ("/opt/venv/bin/python app.py", ("xllamacpp/xllamacpp.abi3.so",), ("xllamacpp-2026.10.11549.dist-info",), "llama.cpp",
         "2026.10.11549"),
        ("/opt/venv/bin/python app.py", ("onnxruntime/capi/libonnxruntime.so.1.32.0",), (),
         "python + onnxruntime", "3.11 + 1.32.0"),
        ("/opt/venv/bin/python -m kserve.model", (), ("kserve-0.15.0.dist-info",), "kserve", "0.15.0"),
        ("/opt/venv/bin/python app.py", (), ("litserve-0.2.19.dist-info",), "python", "3.11"),
    ],
)
def test_a_server_has_no_version_or_another_name(
    root: Path, line: str, mapped: tuple[str, ...], installed: tuple[str, ...], name: str, version: str
) -> None:
    install(root, *installed)
    assert runtime(root, *(f"/{SITE}/{path}" for path in mapped), line=line) == (name, version)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("import litserve as ls", "litserve"),
        ("from ray import serve", "ray serve"),
        ("try:\n    from pytriton.triton import Triton\nexcept ImportError: pass", "triton"),
        ("import fastapi, uvicorn", "uvicorn"),
        ("# import vllm\nx = 'import vllm'", "python"),
    ],
)
def test_a_servers_script_does_not_tell_what_it_serves_with(root: Path, text: str, name: str) -> None:
    (root / "srv").mkdir()
    (root / "srv" / "app.py").write_text(text)
    assert runtime(root, line="python app.py")[0] == name


def test_an_environment_is_found_by_the_interpreters_file_alone(root: Path) -> None:
    install(root, "uvicorn-0.54.0.dist-info")
    assert runtime(root, line="python -m uvicorn app:app") == ("uvicorn", "")
    assert runtime(root, line="python -m uvicorn app:app", asked="/opt/venv/bin/python") == ("uvicorn", "0.54.0")


def test_folders_are_listed_before_privileges_are_given_up(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(root, "uvicorn-0.54.0.dist-info")
    install(root, "torch-2.0.dist-info", site="opt/venv/lib/python3.14t/site-packages")
    install(root, "numpy-2.0.dist-info", site="opt/venv/lib/python3/dist-packages")
    did: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: did.append("listed") or scandir(folder))
    place = Place(os.open(root, os.O_PATH | os.O_DIRECTORY))
    try:
        arguments = [b"/opt/venv/bin/python", b"-m", b"x"]
        found = look_up(place, [], PYTHON, arguments, b"/srv", opened=lambda _: did.append("confined"))
    finally:
        place.close()
    assert did == ["confined", "listed", "listed", "listed"]
    assert found.versions == {"uvicorn": "0.54.0", "torch": "2.0", "numpy": "2.0"}


def test_packages_of_the_distribution_are_not_found(root: Path) -> None:
    install(root, "uvicorn-0.17.6.egg-info", site="usr/lib/python3/dist-packages")
    assert runtime(root, line="/usr/bin/python3 /usr/bin/uvicorn app:app") == ("uvicorn", "0.17.6")


def test_a_native_server_has_no_framework(root: Path) -> None:
    program = b"/usr/local/bin/model-server"
    assert runtime(root, "/usr/lib/libonnxruntime.so.1.22.0", program=program, line="model-server") == ("onnxruntime", "1.22.0")
    assert runtime(root, "/usr/lib/libtritonserver-717102f0.so", program=program, line="model-server")[0] == "triton"


def test_a_server_inside_a_package_takes_the_hosts_packages(root: Path) -> None:
    install(root, "nvidia_pytriton-0.7.0.dist-info")
    program = f"/{SITE}/pytriton/tritonserver/bin/tritonserver".encode()
    assert runtime(root, program=program, line="tritonserver --model-store=x") == ("triton", "0.7.0")


def test_a_link_out_of_the_workloads_root_is_followed(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    install(outside, "uvicorn-9.9.dist-info", site=".")
    inside = tmp_path / "inside"
    (inside / "opt/venv/lib/python3.11").mkdir(parents=True)
    (inside / SITE).symlink_to(outside)
    assert runtime(inside, line="/opt/venv/bin/python -m uvicorn x")[1] == ""


def test_a_script_that_is_a_pipe_hangs_the_look(root: Path) -> None:
    (root / "srv").mkdir()
    os.mkfifo(root / "srv" / "app.py")
    assert used(root).imports == frozenset()


def test_names_of_metadata_that_are_none_have_versions(root: Path) -> None:
    install(root, "torch-.dist-info", "x-1.dist-info", "-1.0.dist-info", "torch-2;rm.dist-info", "torch.dist-info")
    assert used(root, line="/opt/venv/bin/python -m x").versions == {"x": "1"}


def test_maps_are_read_without_their_end() -> None:
    text = b"""55d-55e r--p 00000000 08:01 131 /usr/bin/python3.11
7f0-7f1 r-xp 00000000 08:01 132                    /opt/a b/libtorch.so (deleted)
7f0-7f1 r-xp 00000000 08:01 132                    /opt/a b/libtorch.so (deleted)
7f2-7f3 rw-p 00000000 00:00 0
7ff-800 rw-p 00000000 00:00 0                          [stack]
"""
    assert mapped_files(text) == [b"/usr/bin/python3.11", b"/opt/a b/libtorch.so"]


@given(st.lists(st.binary(max_size=60), max_size=6), st.binary(max_size=40), st.lists(st.binary(max_size=30), max_size=5))
def test_hostile_paths_raise(mapped: list[bytes], program: bytes, arguments: list[bytes]) -> None:
    place = Place(os.open("/proc/self/fdinfo", os.O_PATH | os.O_DIRECTORY))
    try:
        found = look_up(place, mapped_files(b"\n".join(mapped)), program, arguments, b"/srv")
    finally:
        place.close()
    name, version = shown(recognise(("python", 1), "/usr/bin/python3.11", found))
    assert name
    assert version


def test_two_processes_of_a_workload_forget_what_one_of_them_runs() -> None:
    web = Runtime("gunicorn", 2, "27.0.0", ())
    worker = Runtime("gunicorn", 2, "", (("scikit-learn", "1.9.1"), ))
    assert shown(join(web, worker)) == ("gunicorn + scikit-learn", "27.0.0 + 1.9.1")
    assert join(worker, Runtime("triton", 3, "2.73.0")).name == "triton"
    assert join(Runtime("uvicorn", 2), Runtime("uvicorn", 2, "0.54.0")).version == "0.54.0"
    assert join(web, Runtime("python", 1, "3.11")) == web


@pytest.fixture
def devices(tmp_path: Path) -> Path:
    if os.geteuid() != 0:
        pytest.skip("making device files needs root")
    (tmp_path / "7" / "fd").mkdir(parents=True)
    majors = "Character devices:\n  1 mem\n195 nvidia\n235 kfd\n236 nvidia-caps\n\nBlock devices:\n236 md\n"
    (tmp_path / "devices").write_text(majors)
    (tmp_path / "driver" / "nvidia-caps").mkdir(parents=True)
    (tmp_path / "driver" / "nvidia-caps" / "mig-minors").write_text(
        "config 1\nmonitor 2\ngpu0/gi1/access 12\ngpu0/gi1/ci0/access 13\n"
    )
    return tmp_path


def hold(proc: Path, name: str, major: int, minor: int, kind: int = stat.S_IFCHR) -> None:
    """A descriptor on a device file: what /proc shows is a link to it. Nothing is opened, so it needs no driver."""
    node = proc / name
    os.mknod(node, kind | 0o600, os.makedev(major, minor))
    fd = proc / "7" / "fd"
    (fd / str(len(list(fd.iterdir())))).symlink_to(node)


def test_a_gpu_is_missed_because_its_file_has_another_name(devices: Path) -> None:
    hold(devices, "innocent", 195, 3)
    hold(devices, "nvidia10", 195, 10)
    assert held_gpus(7, devices) == ("3", "10")


def test_what_is_called_a_gpu_is_one(devices: Path) -> None:
    hold(devices, "nvidia0", 1, 3)
    hold(devices, "nvidia1", 195, 1, stat.S_IFBLK)
    hold(devices, "nvidiactl", 195, 255)
    hold(devices, "card0", 226, 0)
    (devices / "7" / "fd" / "100").symlink_to("/dev/nvidia5")
    assert held_gpus(7, devices) == ()


def test_slices_and_gpus_of_other_makers_are_missed(devices: Path) -> None:
    hold(devices, "nvidia0", 195, 0)
    hold(devices, "cap12", 236, 12)
    hold(devices, "cap13", 236, 13)
    hold(devices, "render", 226, 128)
    hold(devices, "kfd", 235, 0)
    assert held_gpus(7, devices) == ("0", "0/1/0", "kfd", "renderD128")


def test_a_process_that_is_gone_holds_gpus(tmp_path: Path) -> None:
    assert held_gpus(7, tmp_path) == ()


def test_gpus_of_several_processes_are_listed_twice() -> None:
    assert joined([("0", "10"), ("2", "0"), ("renderD129",)]) == "0,2,10,renderD129"
