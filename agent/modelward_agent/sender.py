"""Entry of the sending process: ``python -m modelward_agent.sender FD``, where FD is the line to the drainer."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from importlib.abc import MetaPathFinder
from typing import Any

from modelward_proto.logs import configure

from modelward_agent import privileges
from modelward_agent.control import MAX_MESSAGE, Channel


class WithoutPandas(MetaPathFinder):
    """pyarrow loads pandas, 31 MB, wherever it finds it: where a collector is installed beside the agent."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("the agent has no use for pandas", name=fullname)


def main() -> int:
    # Ctrl-C reaches every process of the terminal; the drainer decides when the sender ends.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # It talks to the network and reads what workloads say: it keeps nothing of the drainer's rights, nor its priority.
    privileges.keep(privileges.SENDER, privileges.SENDER)
    os.setpriority(os.PRIO_PROCESS, 0, max(0, os.getpriority(os.PRIO_PROCESS, 0)))
    end = socket.socket(fileno=int(sys.argv[1]))
    end.settimeout(10.0)
    what, begin = json.loads(end.recv(MAX_MESSAGE))
    if what != "begin":
        raise SystemExit("the drainer did not begin with its settings")
    configure(begin["settings"]["log_level"], begin["settings"]["log_format"])
    sys.meta_path.insert(0, WithoutPandas())
    from modelward_agent.sending import serve

    asyncio.run(serve(Channel(end), begin))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
