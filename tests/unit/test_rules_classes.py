"""Programs, files and addresses get the class that a person would give them; a whole batch gets the same as
one by one.
"""

from __future__ import annotations

import ipaddress

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modelward_collector.rules.class_lists import SHIPPED
from modelward_collector.rules.classes import Classes
from modelward_collector.rules.rule import RuleError

CLASSES = Classes.shipped()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("", "none"),
        ("/usr/bin/dash", "shell"),
        ("/usr/bin/curl", "downloader"),
        ("/usr/bin/nc.openbsd", "network_tool"),
        ("/usr/bin/python3.11", "interpreter"),
        ("/opt/x/bin/python", "interpreter"),
        ("/usr/bin/perl5.36", "interpreter"),
        ("/usr/bin/PYTHON3", "interpreter"),
        ("/usr/bin/x86_64-linux-gnu-gcc-12", "compiler"),
        ("/usr/lib/gcc/x86_64-linux-gnu/12/cc1plus", "compiler"),
        ("/usr/bin/x86_64-linux-gnu-ld.bfd", "compiler"),
        ("/usr/sbin/ldconfig", "probe_helper"),
        ("/usr/bin/uname", "probe_helper"),
        ("/usr/bin/pip3.11", "package_manager"),
        ("/usr/bin/sudo", "privilege"),
        ("/usr/bin/id", "other"),
        ("/opt/tritonserver/bin/tritonserver", "other"),
        ("/tmp/shx", "other"),
        ("/memfd:x", "other"),
        ("/tmp/bash (deleted)", "shell"),
    ],
)
def test_program_is_classified_by_its_base_name(path: str, kind: str) -> None:
    assert CLASSES.lists.executable(path) == kind


@pytest.mark.parametrize(
    ("path", "line", "kind"),
    [
        ("/bin/busybox", "sh -c id", "shell"),
        ("/bin/busybox", "-ash", "shell"),
        ("/bin/busybox", "/bin/uname -p", "probe_helper"),
        ("/bin/busybox", "busybox wget http://x", "downloader"),
        ("/bin/busybox", "busybox busybox", "other"),
        ("/bin/BusyBox", "nc -e sh", "network_tool"),
        ("/bin/busybox", "", "other"),
        ("/usr/bin/coreutils", "cat /etc/shadow", "other"),
        ("/usr/bin/curl", "uname -p", "downloader"),
    ],
)
def test_program_that_is_many_in_one_is_classified_by_its_first_argument(path: str, line: str, kind: str) -> None:
    events = pl.DataFrame({"process_executable_path": [path], "process_command_line": [line]})
    assert CLASSES.classify(events)["process_executable_class"].to_list() == [kind]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("", "none"),
        ("/root/.ssh/id_ed25519", "credential"),
        ("/etc/shadow", "credential"),
        ("/var/lib/c/overlay/m/etc/shadow", "credential"),
        ("/home/a/.aws/credentials", "cloud_credential"),
        ("/root/.azure/msal_token_cache.json", "cloud_credential"),
        ("/root/.config/gcloud/application_default_credentials.json", "cloud_credential"),
        ("/root/.kube/config", "credential"),
        ("/root/.docker/config.json", "credential"),
        ("/root/.cache/huggingface/token", "credential"),
        ("/run/secrets/kubernetes.io/serviceaccount/token", "cloud_credential"),
        ("/root/.netrc", "credential"),
        ("/root/.pgpass", "credential"),
        ("/srv/app/.env", "credential"),
        ("/srv/.envrc.d/x", "other"),
        ("/x/lib/python3.11/site-packages/a.pth", "startup_hook"),
        ("/srv/data/a.pth", "python_code"),
        ("/x/sitecustomize.py", "startup_hook"),
        ("/x/usercustomize.py", "startup_hook"),
        ("/etc/cron.d/x", "startup_hook"),
        ("/var/spool/cron/crontabs/root", "startup_hook"),
        ("/root/.bashrc", "startup_hook"),
        ("/etc/profile.d/x.sh", "startup_hook"),
        ("/root/.ssh/authorized_keys", "startup_hook"),
        ("/etc/systemd/system/x.service", "startup_hook"),
        ("/etc/ld.so.preload", "startup_hook"),
        ("/etc/sudoers.d/x", "startup_hook"),
        ("/srv/m.safetensors", "artifact"),
        ("/srv/M.GGUF", "artifact"),
        ("/srv/m.pkl", "artifact"),
        ("/usr/lib/x/libc.so.6", "library"),
        ("/x/a.cpython-311-x86_64-linux-gnu.so", "library"),
        ("/x/a.py", "python_code"),
        ("/proc/cpuinfo", "proc"),
        ("/dev/nvidia0", "gpu_device"),
        ("/dev/null", "device"),
        ("/dev/shm/psm_1", "shm"),
        ("/tmp/x", "temp"),
        ("/tmp/x.py", "python_code"),
        ("/tmp/torchinductor_root/x/k.cpp", "jit_cache"),
        ("/root/.triton/cache/x/k.json", "jit_cache"),
        ("/etc/hosts", "system_config"),
        ("/etc/passwd", "system_config"),
        ("/run/docker.sock", "runtime_socket"),
        ("/srv/x", "other"),
        ("relative", "other"),
    ],
)
def test_file_is_classified_by_its_path(path: str, kind: str) -> None:
    assert CLASSES.lists.file(path) == kind


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("", "none"),
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("0.0.0.0", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("10.1.2.3", "private"),
        ("172.31.0.1", "private"),
        ("192.168.1.1", "private"),
        ("100.64.1.1", "private"),
        ("fd12::1", "private"),
        ("169.254.1.1", "link_local"),
        ("fe80::1", "link_local"),
        ("169.254.169.254", "metadata"),
        ("::ffff:169.254.169.254", "metadata"),
        ("fd00:ec2::254", "metadata"),
        ("100.100.100.200", "metadata"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("8.8.8.8", "public"),
        ("2606:4700::1", "public"),
        ("/run/docker.sock", "unix"),
        ("@abstract", "unix"),
    ],
)
def test_destination_is_classified_by_its_address(address: str, kind: str) -> None:
    assert CLASSES.lists.destination(address) == kind


PIECES = [
    "/etc/",
    "shadow",
    "/.ssh/",
    "id_rsa",
    ".pth",
    "/site-packages/",
    ".so",
    ".so.6",
    ".PY",
    "/tmp/",
    "/dev/shm/",
    ".gguf",
    "/proc/1",
    "é",
    "K",
    "\u212a",
    "/",
    "x",
    "",
    " ",
    "\\x0a",
]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=5).map("".join), max_size=12))
def test_batch_of_paths_gets_the_classes_that_each_has(paths: list[str]) -> None:
    events = pl.DataFrame(
        {"file_path": paths, "process_executable_path": paths, "destination_address": paths},
        schema=dict.fromkeys(("file_path", "process_executable_path", "destination_address"), pl.String),
    )
    out = CLASSES.classify(events)
    assert out["file_class"].cast(pl.String).to_list() == [CLASSES.lists.file(path) for path in paths]
    assert out["process_executable_class"].cast(pl.String).to_list() == [CLASSES.lists.executable(path) for path in paths]
    assert out["destination_class"].cast(pl.String).to_list() == [CLASSES.lists.destination(path) for path in paths]


@given(st.ip_addresses())
def test_every_address_has_a_class_and_its_mapped_form_the_same(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    kind = CLASSES.lists.destination(str(address))
    assert kind not in ("none", "unix")
    if address.version == 4:
        assert CLASSES.lists.destination(f"::ffff:{address}") == kind


def test_batch_without_the_columns_gets_no_class() -> None:
    out = CLASSES.classify(pl.DataFrame({"row": [0, 1]}))
    assert out["file_class"].cast(pl.String).to_list() == ["none", "none"]


def test_name_asked_for_makes_a_hash_an_artifact_and_nothing_else() -> None:
    pairs = [
        ("/store/9f86", "/x/m.gguf"),
        ("/store/9f86", "/root/.ssh/id_rsa"),
        ("/etc/shadow", "/x/m.gguf"),
        ("/tmp/x", "/x/m.gguf"),
    ]
    events = pl.DataFrame(pairs, schema=["file_path", "file_path_asked"], orient="row")
    assert CLASSES.classify(events)["file_class"].to_list() == ["artifact", "other", "credential", "temp"]


def test_empty_batch_gets_the_columns() -> None:
    out = CLASSES.classify(pl.DataFrame(schema={"file_path": pl.String, "destination_address": pl.String}))
    assert {"file_class", "process_executable_class", "destination_class"} <= set(out.columns)


def test_lists_of_a_second_file_add_to_the_first() -> None:
    extra = b"version: 1\nfiles:\n  credential:\n    names: [house.key]\n"
    both = Classes([("classes.yml", SHIPPED.read_bytes()), ("extra/classes.yml", extra)])
    assert both.lists.file("/srv/House.Key") == "credential"
    assert both.lists.file("/etc/shadow") == "credential"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("files:\n  credentail:\n    names: [x]\n", 2, "'credential'"),
        ("files:\n  credential:\n    nams: [x]\n", 3, "'names'"),
        ("file:\n  credential: {}\n", 1, "'files'"),
        ("executables:\n  shell: sh\n", 2, "list of names"),
        ("destinations:\n  private:\n    - 10.0.0.1/8\n", 3, "host bits"),
    ],
)
def test_mistake_in_a_list_is_refused_at_its_line(text: str, line: int, said: str) -> None:
    with pytest.raises(RuleError) as caught:
        Classes([("classes.yml", text.encode())])
    assert [(p.line, said in p.message) for p in caught.value.problems] == [(line, True)]


def test_hostile_variety_of_paths_is_not_remembered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelward_collector.rules.classes.CACHE_SIZE", 100)
    classes = Classes.shipped()
    for start in range(0, 1000, 50):
        classes.classify(pl.DataFrame({"process_executable_path": [f"/tmp/{n}" for n in range(start, start + 50)]}))
    assert len(classes._seen["executable"]) <= 100
