"""The install script on a root of its own with real systemd: what a host has then, after an upgrade, and when it is gone."""

from __future__ import annotations

import json
import re
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from modelward_agent.privileges import DRAINER

from tests.own_root import SYSTEMD, OwnRoot, own_root

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(not SYSTEMD.exists(), reason="needs systemd, to be run in a root of its own"),
]

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PACKAGES = Path(pytest.__file__).parents[1]
"""What Modelward depends on, as the tests have it: the script runs pip without an index, and without dependencies."""

OFFLINE = {"PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1", "PYTHONPATH": "/opt/test-packages"}
UNITS = "/etc/systemd/system"
PINS = "/sys/fs/bpf/modelward"
CAP_SYS_NICE = 23
"""What the unit adds to what the agent keeps: it is used at its start."""


@pytest.fixture(scope="module")
def folder(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, a second one of another content, and certificates, below the source tree, which the root sees."""
    made = tmp_path_factory.mktemp("install")
    (made / "built").symlink_to(wheel.parent)
    certificates(made / "pki", "ca")
    certificates(made / "pki", "collector", "collector.test", "127.0.0.1")
    certificates(made / "pki", "agent", "gpu-17")
    return made


def certificates(folder: Path, what: str, *names: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [str(DEPLOY / "certificates.sh"), what, str(folder), *names]
    return subprocess.run(command, check=check, capture_output=True, text=True)


class Host:
    """A host on which the script runs."""

    def __init__(self, root: OwnRoot, folder: Path) -> None:
        self.root = root
        # What is under /tmp outside is not there inside.
        self.root.run("mkdir", "-p", "/srv/given")
        for name in ("pki", "built"):
            self.copy(folder / name, f"/srv/given/{name}")
        self.copy(DEPLOY, "/srv/given/deploy")
        [wheel] = (folder / "built").glob("*.whl")
        self.wheel = f"/srv/given/built/{wheel.name}"
        for unit in ("agent", "collector"):
            self.root.run("mkdir", "-p", f"{UNITS}/modelward-{unit}.service.d")
            self.root.path(f"{UNITS}/modelward-{unit}.service.d/packages.conf").write_text(
                "[Service]\nEnvironment=PYTHONPATH=/opt/test-packages\n")

    def copy(self, source: Path, inside: str) -> None:
        subprocess.run(["cp", "-rL", str(source), str(self.root.path(inside))], check=True)

    def install(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.root.run("/srv/given/deploy/install.sh", *arguments, check=check, environment=OFFLINE)

    def install_collector(self) -> subprocess.CompletedProcess[str]:
        return self.install("collector", "--wheel", self.wheel, "--tls", "/srv/given/pki/collector.test")

    def install_agent(self, wheel: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.install("agent", "--wheel", wheel or self.wheel, "--tls", "/srv/given/pki/gpu-17", "--collector",
                            "127.0.0.1:4460", "--label", "env=prod", "--label", "team=search and ads", check=check)

    def shown(self, unit: str, name: str) -> str:
        return self.root.run("systemctl", "show", "--value", "--property", name, f"modelward-{unit}").stdout.strip()

    def status(self, unit: str) -> dict[str, str]:
        text = self.root.run("cat", f"/proc/{self.shown(unit, 'MainPID')}/status").stdout
        return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)

    def exists(self, path: str) -> bool:
        return self.root.run("test", "-e", path, check=False).returncode == 0

    def until(self, *command: str) -> None:
        """Run a command until it succeeds."""
        script = 'for i in $(seq 200); do said=$("$@" 2>&1) && exit 0; sleep 0.1; done; echo "$said"; exit 1'
        self.root.run("bash", "-c", script, "until", *command, environment=OFFLINE)

    def rows(self, sql: str) -> list[dict[str, str]]:
        client = ["modelward", "--url", "https://127.0.0.1:4461", "--ca", "/etc/modelward/collector-ca.pem", "--token-file",
                  "/etc/modelward/secrets/token", "--json", "query", sql]
        said = self.root.run(*client, environment=OFFLINE).stdout
        return [json.loads(line) for line in said.splitlines()]


@pytest.fixture(scope="module")
def host(folder: Path) -> Iterator[Host]:
    with own_root(PACKAGES) as root:
        made = Host(root, folder)
        made.install_collector()
        made.install_agent()
        yield made


def test_both_daemons_run_and_the_host_is_known_by_its_certificate_and_labels(host: Host) -> None:
    assert [host.shown(unit, "ActiveState") for unit in ("agent", "collector")] == ["active", "active"]
    host.until("bash", "-c", "modelward --url https://127.0.0.1:4461 --ca /etc/modelward/collector-ca.pem "
               "--token-file /etc/modelward/secrets/token hosts | grep -q gpu-17")
    [row] = host.rows("SELECT host_name, connected, mode, arrayStringConcat(labels, ', ') AS labels FROM hosts")
    assert (row["host_name"], row["labels"]) == ("gpu-17", "env=prod, team=search and ads")


def test_hooks_are_in_place_within_the_units_limits(host: Host) -> None:
    assert "the hooks are attached" in host.root.log("modelward-agent")
    assert host.exists(PINS)


def test_agent_has_only_the_capabilities_that_it_needs_and_cannot_write_outside_its_folders(host: Host) -> None:
    status = host.status("agent")
    allowed = sum(1 << number for number in {*DRAINER, CAP_SYS_NICE})
    assert int(status["CapBnd"].strip(), 16) & ~allowed == 0
    assert (status["NoNewPrivs"].strip(), status["Seccomp"].strip()) == ("1", "2")
    inside = ["nsenter", "--mount", "--target", host.shown("agent", "MainPID")]
    for path in ("/etc/x", "/usr/x", "/opt/modelward/x", "/sys/kernel/mm/ksm/run"):
        assert host.root.run(*inside, "sh", "-c", f"echo 1 > {path}", check=False).returncode != 0, path
    assert host.root.run(*inside, "ls", "-A", "/root").stdout == ""


def test_collector_is_a_user_without_any_privilege_that_sees_only_copies_of_its_secrets(host: Host) -> None:
    status = host.status("collector")
    user = host.root.run("id", "-u", "modelward").stdout.strip()
    assert status["Uid"].split() == [user] * 4
    assert {status[name].strip() for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    for path, wanted in (("/etc/modelward/secrets/token", 1), ("/run/credentials/modelward-collector.service/secrets_token", 0)):
        done = host.root.run("runuser", "-u", "modelward", "--", "cat", path, check=False)
        assert bool(done.returncode) == bool(wanted), path


@pytest.mark.parametrize(("path", "mode"), [
    ("/etc/modelward/agent.toml", "600 root"), ("/etc/modelward/agent-key.pem", "600 root"),
    ("/etc/modelward/collector.toml", "640 root"), ("/etc/modelward/secrets", "700 root"),
    ("/etc/modelward/secrets/token", "600 root"), ("/etc/modelward/secrets/key.pem", "600 root"),
    ("/var/lib/modelward", "700 modelward"), ("/var/lib/modelward-agent", "700 root"),
])
def test_nobody_else_reads_settings_keys_and_data(host: Host, path: str, mode: str) -> None:
    assert host.root.run("stat", "-c", "%a %U", path).stdout.strip() == mode


def test_units_are_right_for_systemd_and_little_exposed(host: Host) -> None:
    for unit, most in (("agent", 3.6), ("collector", 1.2)):
        done = host.root.run("systemd-analyze", "verify", f"modelward-{unit}.service")
        assert done.stderr == ""
        said = host.root.run("systemd-analyze", "security", "--no-pager", f"modelward-{unit}.service").stdout
        found = re.search(r"exposure level for \S+: ([0-9.]+)", said)
        assert found is not None
        assert float(found[1]) <= most


def test_a_second_run_changes_and_restarts_nothing(host: Host) -> None:
    edited = host.root.path("/etc/modelward/collector.toml")
    edited.write_text(edited.read_text() + "# mine\n")
    before = host.shown("collector", "MainPID"), edited.read_text(), host.root.run("cat", "/etc/modelward/secrets/token").stdout
    said = host.install("collector", "--wheel", host.wheel).stdout
    after = host.shown("collector", "MainPID"), edited.read_text(), host.root.run("cat", "/etc/modelward/secrets/token").stdout
    assert (before, "stays as it is" in said) == (after, True)


def test_upgrade_runs_the_new_programs_and_leaves_no_gap_and_no_old_ones(host: Host, folder: Path) -> None:
    inside = host.root.path("/srv/given/newer")
    inside.mkdir()
    newer = inside / Path(host.wheel).name
    newer.write_bytes(host.root.path(host.wheel).read_bytes())
    with zipfile.ZipFile(newer, "a") as wheel:
        wheel.comment = b"another build"
    before, hooks = host.shown("agent", "MainPID"), host.root.run("ls", "-i", PINS).stdout
    host.install_agent(f"/srv/given/newer/{newer.name}")
    assert host.shown("agent", "MainPID") != before
    assert host.root.run("ls", "-i", PINS).stdout == hooks
    [release] = host.root.path("/opt/modelward/releases").glob("agent-*")
    assert host.root.run("readlink", "/opt/modelward/agent").stdout.strip().endswith(release.name)


def test_a_wheel_that_cannot_be_installed_leaves_the_running_one_alone(host: Host) -> None:
    host.root.path("/srv/given/modelward-0.2.0-py3-none-linux_x86_64.whl").write_bytes(b"no wheel")
    before = host.shown("agent", "MainPID"), host.root.run("readlink", "/opt/modelward/agent").stdout
    done = host.install_agent("/srv/given/modelward-0.2.0-py3-none-linux_x86_64.whl", check=False)
    assert done.returncode != 0
    assert (host.shown("agent", "MainPID"), host.root.run("readlink", "/opt/modelward/agent").stdout) == before


def test_hooks_count_on_while_the_agent_is_stopped(host: Host) -> None:
    host.root.run("systemctl", "stop", "modelward-agent")
    assert host.exists(PINS)
    host.root.run("systemctl", "start", "modelward-agent")


def test_store_is_backed_up_while_the_collector_runs_within_its_limits(host: Host) -> None:
    host.root.run("modelward-collector", "backup", "--data", "/var/lib/modelward", "--to", "/srv/backup", environment=OFFLINE)
    host.root.run("modelward-collector", "restore", "--from", "/srv/backup", "--check", environment=OFFLINE)


def test_outputs_run_within_the_collectors_limits_with_their_secret(host: Host) -> None:
    host.root.run("sh", "-c", "umask 077; echo 0123456789abcdef > /etc/modelward/secrets/webhook")
    settings = host.root.path("/etc/modelward/collector.toml")
    secret = "/run/credentials/modelward-collector.service/secrets_webhook"
    settings.write_text(f'{settings.read_text()}webhook_url = "http://127.0.0.1:9/"\nwebhook_secret_file = "{secret}"\n')
    host.root.run("systemctl", "restart", "modelward-collector")
    # Nobody listens there: that is known once there is a detection to send.
    host.until("sh", "-c", "modelward --url https://127.0.0.1:4461 --ca /etc/modelward/collector-ca.pem --json "
               "--token-file /etc/modelward/secrets/token outputs | grep -E '\"problem\": \"(\"|.*no connection)'")
    assert "a process ended" not in host.root.log("modelward-collector")


def test_agent_is_paused_and_goes_on_within_its_limits(host: Host) -> None:
    host.root.run("modelward-agent", "pause", "--reason", "a test", environment=OFFLINE)
    assert not host.exists(PINS)
    host.root.run("modelward-agent", "resume", environment=OFFLINE)
    assert host.exists(PINS)


def test_a_killed_daemon_is_started_again(host: Host) -> None:
    for unit in ("agent", "collector"):
        before = host.shown(unit, "MainPID")
        host.root.run("kill", "-9", before)
        host.until("bash", "-c", f'[ "$(systemctl show --value -p MainPID modelward-{unit})" != {before} ] && '
                   f'[ "$(systemctl show --value -p ActiveState modelward-{unit})" = active ]')


def test_a_wrong_setting_is_said_and_not_tried_again_and_again(host: Host) -> None:
    settings = host.root.path("/etc/modelward/agent.toml")
    right = settings.read_text()
    settings.write_text(right + 'nonsense = "x"\n')
    assert host.root.run("systemctl", "restart", "modelward-agent", check=False).returncode != 0
    assert (host.shown("agent", "ActiveState"), host.shown("agent", "ExecMainStatus")) == ("failed", "2")
    assert "unknown setting 'nonsense'" in host.root.log("modelward-agent")
    settings.write_text(right)
    host.root.run("systemctl", "start", "modelward-agent")


def test_uninstall_leaves_no_hook_and_keeps_settings_and_data(host: Host) -> None:
    host.install("uninstall", "agent")
    assert not host.exists(PINS)
    assert not host.exists(f"{UNITS}/modelward-agent.service")
    assert not host.exists("/opt/modelward/agent")
    assert host.exists("/etc/modelward/agent.toml")
    assert host.exists("/var/lib/modelward-agent/spool")
    assert host.shown("collector", "ActiveState") == "active"


def test_purge_leaves_nothing(host: Host) -> None:
    host.install("uninstall", "collector", "--purge")
    host.install("uninstall", "agent", "--purge")
    for path in ("/etc/modelward", "/opt/modelward", "/var/lib/modelward", "/var/lib/modelward-agent", PINS,
                 "/usr/local/bin/modelward", "/usr/local/bin/modelward-agent", f"{UNITS}/modelward-agent.service"):
        assert not host.exists(path), path
    assert host.root.run("id", "modelward", check=False).returncode != 0


def test_missing_packages_are_those_of_the_distribution(folder: Path) -> None:
    with own_root(PACKAGES) as root:
        host = Host(root, folder)
        root.run("bash", "-c", "rm -f /usr/lib/*-linux-gnu/libbpf.so.1")
        for about, wanted in (("ID=debian", "libbpf1"), ("ID=rocky\nID_LIKE='rhel centos fedora'", "dnf install -y -q libbpf")):
            root.path("/etc/os-release").unlink()
            root.path("/etc/os-release").write_text(about + "\n")
            said = host.install("agent", "--wheel", host.wheel, "--dry-run").stdout
            assert wanted in said
        root.path("/etc/os-release").write_text("ID=unheard-of\n")
        done = host.install("agent", "--wheel", host.wheel, "--dry-run", check=False)
        assert (done.returncode, "libbpf 1.x is missing" in done.stderr) == (1, True)


def test_dry_run_changes_nothing(folder: Path) -> None:
    with own_root(PACKAGES) as root:
        host = Host(root, folder)
        changed = "find /etc /usr/local /opt /var/lib/modelward* -xdev -newer /srv/marker 2>/dev/null || true"
        root.run("touch", "/srv/marker")
        for arguments in (("collector", "--tls", "/srv/given/pki/collector.test"), ("agent",), ("uninstall", "agent")):
            wheel = () if arguments[0] == "uninstall" else ("--wheel", host.wheel)
            assert "would run" in host.install(*arguments, *wheel, "--dry-run").stdout
        assert root.run("bash", "-c", changed).stdout == ""


@pytest.mark.parametrize(("arguments", "said"), [
    (("agent", "--collector", "collector.example"), "HOST:PORT is wanted"),
    (("agent", "--collector", "collector.example:4460"), "--tls DIR"),
    (("agent", "--label", 'env="x"'), "NAME=VALUE is wanted"),
    (("agent", "--tls", "/nowhere"), "there is no cert.pem"),
    (("agent", "--prefix", "/home/x"), "cannot see into home folders"),
    (("agent", "--prefix", "opt x"), "an absolute path"),
    (("agent", "--wheel", "/nowhere.whl"), "there is no such file"),
    (("agent", "--wheels", "/nowhere"), "there is no such folder"),
    (("agent", "--wheels", "/usr"), "no wheel of Modelward in /usr"),
    (("agent", "--nonsense"), "is no option"),
    (("collector", "--label", "env=x"), "belong to the agent"),
])
def test_a_wrong_argument_is_named_before_anything_is_done(arguments: tuple[str, ...], said: str) -> None:
    done = subprocess.run([str(DEPLOY / "install.sh"), *arguments, "--dry-run"], capture_output=True, text=True, check=False)
    assert (done.returncode, said in done.stderr, "would run" in done.stdout) == (1, True, False), done.stderr


def test_certificates_are_signed_for_one_purpose_and_keys_are_private(folder: Path) -> None:
    pki = folder / "pki"
    for name, purpose in (("collector.test", "sslserver"), ("gpu-17", "sslclient")):
        subprocess.run(["openssl", "verify", "-purpose", purpose, "-CAfile", str(pki / "ca.pem"), str(pki / name / "cert.pem")],
                       check=True, capture_output=True)
        assert (pki / name / "key.pem").stat().st_mode & 0o777 == 0o600
    assert (pki / "ca.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("what", "names", "said"), [
    ("ca", (), "would make every certificate worthless"),
    ("agent", ("gpu-17",), "is there already"),
    ("agent", ("../up",), "is no host name"),
    ("agent", ("x,DNS:evil",), "is no host name"),
    ("collector", ("ok.example", "10.0.0.1,DNS:evil"), "is no address"),
])
def test_certificates_are_refused_for_what_is_no_name(folder: Path, what: str, names: tuple[str, ...], said: str) -> None:
    done = certificates(folder / "pki", what, *names, check=False)
    assert (done.returncode, said in done.stderr) == (1, True), done.stderr


def test_scripts_pass_shellcheck() -> None:
    done = subprocess.run(["shellcheck", *map(str, DEPLOY.glob("*.sh"))], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
