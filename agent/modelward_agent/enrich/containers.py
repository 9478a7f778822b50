"""Container and Kubernetes pod of a process, from its cgroup paths (docker, containerd, CRI-O, podman,
ECS; cgroup v1 and v2)."""

from __future__ import annotations

import re
from dataclasses import dataclass

# One component of a cgroup path. The helpers of a container (crio-conmon-, libpod-conmon-) are not the
# container.
_CONTAINER = re.compile(
    r"(?:(?:docker|cri-containerd|containerd|crio|libpod|nerdctl)-)?([0-9a-f]{64}|[0-9a-f]{32}-[0-9]{6,12})(?:\.scope)?\Z"
)
_POD = re.compile(r"(?:kubepods[a-z-]*-)?pod([0-9a-f]{8}(?:[-_]?[0-9a-f]{4}){3}[-_]?[0-9a-f]{12})(?:\.slice)?\Z")


@dataclass(frozen=True, slots=True)
class Container:
    """``id``: 64 hex digits, or empty on the host; ``pod``: Kubernetes pod uid, or empty."""

    id: str = ""
    pod: str = ""


HOST = Container()


def parse_cgroups(text: bytes) -> Container:
    """The container that /proc/PID/cgroup tells of.

    The outermost id counts: a workload may make cgroups of any name below its own, never above it.
    """
    container = pod = ""
    for line in text.decode("ascii", "replace").splitlines():
        parts = line.split(":", 2)
        if len(parts) < 3:
            continue
        for component in re.split(r"[/:]", parts[2]):
            if not pod and not container and (found := _POD.match(component)):
                pod = found.group(1).replace("_", "-")
            elif not container and (found := _CONTAINER.match(component)):
                container = found.group(1)
        if container:
            return Container(container, pod)
    return Container("", pod)
