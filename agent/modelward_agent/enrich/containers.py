"""Container and Kubernetes pod of a process, from its cgroup paths (cgroup v1 and v2): docker, containerd, CRI-O, podman,
nerdctl, Kubernetes, ECS, systemd-nspawn, LXC."""

from __future__ import annotations

import re
from dataclasses import dataclass

# One component of a cgroup path. The helpers of a container (crio-conmon-, libpod-conmon-) are not the container.
_CONTAINER = re.compile(
    r"(?:(?:docker|cri-containerd|containerd|crio|libpod|libpod-payload|nerdctl)-)?"
    r"([0-9a-f]{64}|[0-9a-f]{32}-[0-9]{6,12})(?:\.scope)?\Z"
)
# Static pods have a hash for a uid, without dashes; kind's kubelet puts its own name before kubepods.
_POD = re.compile(r"(?:(?:kubelet-)?kubepods[a-z-]*-)?pod([0-9a-f]{8}(?:[-_]?[0-9a-f]{4}){3}[-_]?[0-9a-f]{12})(?:\.slice)?\Z")
_MACHINE = re.compile(
    r"(?:systemd-nspawn@(?P<nspawn>.+)\.service|machine-(?P<machine>.+)\.scope|lxc\.payload\.(?P<lxc>.+))\Z"
)
_MACHINE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_UNIT_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")


@dataclass(frozen=True, slots=True)
class Container:
    """``id``: 64 hex digits, an ECS id or a machine's name, or empty on the host; ``pod``: Kubernetes pod uid, or empty."""

    id: str = ""
    pod: str = ""

    @property
    def short(self) -> str:
        """As people name it: the first 12 of 64 digits, any other id whole."""
        return self.id[:12] if len(self.id) == 64 else self.id


HOST = Container()


def parse_cgroups(text: bytes) -> Container:
    """The container that /proc/PID/cgroup tells of.

    The outermost id counts, also where containers are nested (kind, docker in docker): a workload may make cgroups of any
    name below its own, never above it, and the outermost container is the one that this host's runtime knows.
    """
    pod = ""
    for line in text.decode("ascii", "replace").splitlines():
        parts = line.split(":", 2)
        if len(parts) < 3:
            continue
        components = re.split(r"[/:]", parts[2])
        for at, component in enumerate(components):
            if _is_podman_pod(components, at):
                continue
            if found := _CONTAINER.match(component):
                return Container(found.group(1), pod)
            if machine := _machine(component):
                return Container(machine, pod)
            if not pod and (found := _POD.match(component)):
                pod = found.group(1).replace("_", "-")
    return Container("", pod)


def _is_podman_pod(components: list[str], at: int) -> bool:
    """With the cgroupfs driver podman puts a pod's containers below the bare id of the pod."""
    return 0 < at < len(components) - 1 and components[at - 1] == "libpod_parent" and components[at + 1].startswith("libpod-")


def _machine(component: str) -> str:
    """Name of a systemd-nspawn or LXC container; empty for anything else, a virtual machine too."""
    found = _MACHINE.match(component)
    if found is None:
        return ""
    name = _UNIT_ESCAPE.sub(lambda escaped: chr(int(escaped[1], 16)), next(name for name in found.groups() if name))
    return name if _MACHINE_NAME.match(name) and not name.startswith("qemu-") else ""
