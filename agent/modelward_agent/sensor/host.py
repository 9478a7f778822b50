"""What must be there for the sensor to work at all."""

from __future__ import annotations

import os
from pathlib import Path

from modelward_agent.sensor.errors import SensorError

BTF = Path("/sys/kernel/btf/vmlinux")
LSM = Path("/sys/kernel/security/lsm")


def require_host() -> None:
    """Raises SensorError when nothing can work here: no root, no BTF."""
    if os.geteuid() != 0:
        raise SensorError("loading programs into the kernel needs root "
                          "(CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_SYS_ADMIN): run it with sudo")
    if not BTF.exists():
        raise SensorError(f"this kernel carries no BTF ({BTF} is missing): it must be built with "
                          "CONFIG_DEBUG_INFO_BTF=y, as kernels of all current distributions are")


def lsm_active() -> bool:
    """Whether the kernel runs programs at its security hooks. Where nothing says so, it is left to the attempt."""
    try:
        return "bpf" in LSM.read_text().split(",")
    except OSError:
        return True


def kernel_has(function: str) -> bool:
    """Whether the running kernel's BTF names a function, such as one that BPF programs may call."""
    return b"\0" + function.encode() + b"\0" in BTF.read_bytes()
