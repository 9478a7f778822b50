"""Rules beside the shipped ones, so that a hundred judge each row: of the sorts that Sigma's packs for Linux are made of."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import yaml

_COMMANDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("history wiped", ("history -c", "HISTFILE=/dev/null", "unset HISTFILE", "rm -f /root/.bash_history")),
    ("base64 decoded", ("base64 -d", "base64 --decode", "base64 -D ")),
    ("text run by a shell", ("| sh", "| bash", "|bash", "| dash", "|sh")),
    ("socket of bash", ("/dev/tcp/", "/dev/udp/")),
    ("netcat with a program", ("nc -e", "ncat -e", "nc -c ", "ncat --exec")),
    ("file made immutable", ("chattr +i", "chattr -i")),
    ("capability given", ("setcap cap_setuid", "setcap cap_sys_admin")),
    ("set-user-id bit", ("chmod u+s", "chmod 4755", "chmod g+s", "chmod 6755")),
    ("firewall flushed", ("iptables -F", "nft flush", "ufw disable", "iptables --flush")),
    ("auditing stopped", ("auditctl -e 0", "auditctl -D", "service auditd stop", "systemctl stop auditd")),
    ("log service stopped", ("systemctl stop rsyslog", "systemctl stop syslog", "killall rsyslogd")),
    ("kernel module loaded", ("insmod ", "modprobe -f", "kmod load")),
    ("namespace entered", ("nsenter --target 1", "nsenter -t 1", "unshare -rm")),
    ("container escape", ("release_agent", "/proc/sys/kernel/core_pattern", "docker.sock", "/host/etc")),
    ("miner", ("stratum+tcp://", "xmrig", "--donate-level", "minerd -a", "cryptonight")),
    ("tunnel", ("ngrok http", "chisel client", "cloudflared tunnel", "frpc -c", "bore local")),
    ("port forwarded", ("ssh -R ", "ssh -D ", "ssh -fN", "socat tcp-listen")),
    ("paste site", ("pastebin.com/raw", "paste.ee/r", "transfer.sh/", "termbin.com", "0x0.st")),
    ("account added", ("useradd -o", "usermod -aG sudo", "usermod -aG docker", "adduser --uid 0")),
    ("cron by command", ("crontab -", "/etc/cron.d/", "at now +")),
    ("unit by command", ("systemctl enable", "systemctl daemon-reload", "/etc/systemd/system/")),
    ("keys looked for", ("find / -name id_rsa", "grep -r BEGIN", "find / -name *.pem", "find /home -name .ssh")),
    ("environment read", ("/proc/1/environ", "/proc/self/environ", "printenv AWS")),
    ("memory dumped", ("gcore ", "/proc/kcore", "dd if=/dev/mem", "gdb -p ")),
    ("host described", ("cat /etc/issue", "lsb_release -a", "hostnamectl", "cat /proc/version")),
    ("network described", ("ip route show", "arp -a", "netstat -antp", "ss -tulpn")),
    ("scan", ("nmap -s", "masscan ", "zmap -p", "fping -g")),
    ("copy to cloud", ("aws s3 cp /", "gsutil cp /", "rclone copy", "az storage blob upload")),
    ("archive of a home", ("tar czf /tmp", "zip -r /tmp", "7z a /dev/shm", "tar cz /root")),
    ("time forged", ("touch -r ", "touch -t ", "touch -a -m -t")),
    ("python one line", ("python -c 'import pty", "python3 -c 'import pty", "import socket,subprocess,os", "pty.spawn")),
    ("perl one line", ("perl -e 'use Socket", "perl -MIO -e", "ruby -rsocket -e", "php -r '$sock")),
    ("package from an address", ("pip install http://", "pip install git+http:", "npm install http://", "--index-url http://")),
    ("script from a folder of all", ("sh /tmp/", "bash /tmp/", "python3 /dev/shm/", "sh /var/tmp/")),
    ("shared object asked for", ("LD_PRELOAD=", "LD_LIBRARY_PATH=/tmp", "LD_AUDIT=")),
    ("privileged container", ("docker run --privileged", "--pid=host", "--cap-add=SYS_ADMIN", "-v /:/")),
    ("tracing of others", ("strace -p", "ltrace -p", "perf record -a", "tcpdump -i")),
    ("proxy set", ("export http_proxy=", "ALL_PROXY=socks5", "--proxy socks")),
    ("secrets by command", ("kubectl get secret", "vault kv get", "aws sts get", "gcloud auth print")),
    ("disk wiped", ("dd if=/dev/zero of=/dev/", "shred -u", "mkfs.ext4 /dev/", "wipefs -a")),
)
_FILES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("shadow copies", "endswith", ("/etc/shadow-", "/etc/gshadow-", "/etc/passwd-", "/etc/security/opasswd")),
    ("browser secrets", "contains", ("/.mozilla/firefox/", "/google-chrome/default/login data", "/.config/chromium/")),
    ("password stores", "contains", ("/.password-store/", "/.local/share/keyrings/", "/.gnupg/private-keys")),
    ("kube config", "endswith", ("/.kube/config", "/etc/kubernetes/admin.conf", "/var/lib/kubelet/kubeconfig")),
    ("docker config", "endswith", ("/.docker/config.json", "/.config/containers/auth.json")),
    ("terraform state", "endswith", (".tfstate", ".tfvars", "/.terraformrc")),
    ("shell histories", "endswith", ("/.bash_history", "/.zsh_history", "/.python_history", "/.psql_history")),
    ("database files", "endswith", (".kdbx", ".mdb", "/pgpass", "/.my.cnf")),
    ("wallets", "contains", ("/.bitcoin/", "/.ethereum/keystore", "/.electrum/wallets")),
    ("kernel memory", "startswith", ("/dev/mem", "/dev/kmem", "/proc/kcore", "/proc/kallsyms")),
    ("kernel knobs", "startswith", ("/proc/sys/kernel/", "/proc/sysrq-trigger", "/sys/kernel/uevent_helper")),
    ("block devices", "startswith", ("/dev/sd", "/dev/nvme", "/dev/vd", "/dev/dm-")),
    ("other roots", "startswith", ("/proc/1/root/", "/host/", "/mnt/host/", "/rootfs/")),
    ("container files", "startswith", ("/var/lib/docker/", "/var/lib/containerd/", "/run/containerd/io")),
    ("loader files", "startswith", ("/etc/ld.so.preload", "/etc/ld.so.conf.d/")),
    ("pam files", "startswith", ("/etc/pam.d/", "/lib/security/pam_", "/usr/lib/security/")),
    ("boot files", "startswith", ("/boot/", "/efi/", "/etc/default/grub")),
    ("web roots", "startswith", ("/var/www/", "/usr/share/nginx/html/", "/srv/http/")),
    ("git hooks", "contains", ("/.git/hooks/", "/.git/config")),
    ("agent sockets", "contains", ("/ssh-agent.", "/tmp/ssh-", "/gpg-agent.sock")),
    ("notebooks", "endswith", (".ipynb", "/jupyter_server_config.py")),
    ("dot env", "endswith", ("/.env", "/.env.local", "/.env.production", "/secrets.yaml")),
    ("mail", "startswith", ("/var/mail/", "/var/spool/mail/")),
    ("backups", "endswith", (".bak", ".sql.gz", ".dump", ".tar.gz")),
    ("odd places", "startswith", ("/dev/shm/.", "/tmp/.", "/var/tmp/.", "/run/user/")),
)
_PORTS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("irc", (6660, 6667, 6697)), ("tor", (9001, 9030, 9050, 9150)), ("mining pools", (3333, 4444, 5555, 7777, 14444)),
    ("remote desktops", (3389, 5900, 5901)), ("mail out", (25, 465, 587)), ("databases", (3306, 5432, 6379, 27017)),
    ("file shares", (139, 445, 2049)), ("container daemons", (2375, 2376, 10250)), ("telnet and ftp", (21, 23)),
)
_PROGRAMS = (
    ("hidden", r"/\.[^/]+$", "/srv/.x"), ("of a home", r"^/home/[^/]+/(Downloads|\.cache)/", "/home/a/Downloads/x"),
    ("of a removed folder", r" \(deleted\)", "/srv/x (deleted)"), ("random name", "/[a-z0-9]{24,}$", "/srv/" + "a1b2" * 6),
    ("with two endings", r"\.(pdf|txt|jpg)\.(sh|py|bin)$", "/srv/x.pdf.sh"), ("of the network share", "^/net/", "/net/x"),
)
_PHASES = ("load", "warmup", "serve", "stop")


def write(folder: Path, count: int) -> None:
    """Write ``count`` rules into ``folder``, the same ones each time."""
    made = list(_made())
    if count > len(made):
        raise ValueError(f"there are {len(made)} rules to choose from, not {count}")
    folder.mkdir(parents=True, exist_ok=True)
    # From all sorts alike, whatever the number.
    for index in range(count):
        rule = made[index * len(made) // count]
        name = "".join(c if c.isalnum() else "_" for c in str(rule["title"]).lower())
        (folder / f"{name}.yml").write_text(yaml.safe_dump(rule, sort_keys=False))


def _made() -> Iterator[dict[str, object]]:
    for what, texts in _COMMANDS:
        yield _rule("exec", what, {"process.command_line|contains": list(texts), "lifecycle.phase": list(_PHASES)},
                    {"event.name": "exec", "lifecycle.phase": "serve", "process.command_line": texts[0]})
    for index, (what, how, texts) in enumerate(_FILES):
        access = ["read", "read_write"] if index % 2 else ["write", "read_write"]
        shown = {"endswith": "/x", "contains": "/x", "startswith": ""}[how] + texts[0]
        yield _rule("file_open", what, {f"file.path|{how}": list(texts), "file.access": access},
                    {"event.name": "file_open", "file.access": access[0], "file.path": shown})
    for what, ports in _PORTS:
        yield _rule("connect", what, {"destination.port": list(ports), "destination.class": ["public", "private"]},
                    {"event.name": "connect", "destination.class": "public", "destination.port": ports[0]})
    for what, pattern, shown in _PROGRAMS:
        yield _rule("", f"program {what}", {"process.executable.path|re": pattern, "lifecycle.phase": list(_PHASES)},
                    {"lifecycle.phase": "serve", "process.executable.path": shown})


def _rule(category: str, what: str, selection: dict[str, object], matches: dict[str, object]) -> dict[str, object]:
    entered = {"process.entry": ["entered", "reader"]}
    return {
        "title": f"Bench, {category or 'any'}, {what}",
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"modelward-bench/{category}/{what}")),
        "description": "Made for make bench.", "author": "Modelward", "date": "2026-11-25",
        "logsource": {"product": "modelward"} | ({"category": category} if category else {}),
        "detection": {"chosen": selection, "entered": entered, "condition": "chosen and not entered"},
        "level": "low", "tags": ["attack.t1059", "atlas.aml.t0049"],
        "modelward": {
            "reason": "It is a rule of a benchmark.", "next": "Nothing.", "sentence": "{process.executable.path}: " + what,
            "tests": {
                "match": [matches | {"process.entry": "child"}],
                "no_match": [{"process.entry": "entered"}],
            },
        },
    }
