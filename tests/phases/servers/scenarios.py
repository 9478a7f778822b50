"""What happens to servers once in a while: each a server whose story, or whose model, is out of the ordinary."""

from __future__ import annotations

import subprocess
import time

from tests.phases.run import Run
from tests.phases.server import Model, Server
from tests.phases.servers.plain import GUNICORN, IRIS, LAZILY, LITTLE, LLAMA, MODEL_PATH, SIBLINGS, UVICORN, complete, lazy
from tests.phases.stored import Stored

LAZY = (*UVICORN, "lazy_app:app")


def ten_minutes_later(run: Run) -> None:
    """Children of the load act when the server has answered for a while."""
    lazy(run)
    # apps/spawning.py: LATER_S from the load on.
    run.calm(7.5)
    run.classify(5)


def deleted(run: Run) -> None:
    """The file is opened, removed, and then read."""
    run.ready()
    run.post("/load", {"model": "iris", "unlink": True})
    run.classify(40)


def cached(run: Run) -> None:
    """Everything is in memory before the load; what is mapped costs no read."""
    # Not by a process that would count as a server for having read it.
    subprocess.run(["sha256sum", run.models / "iris.joblib"], check=True, stdout=subprocess.DEVNULL)
    run.ready()
    run.post("/load", {"model": "iris", "mapped": True})
    run.classify(40)


def two_threads(run: Run) -> None:
    """One file, loaded by two threads of one process at the same time."""
    run.ready()
    run.post("/load", {"model": "iris", "threads": 2})
    run.calm(0.3)
    run.classify(40)


def raises(run: Run) -> None:
    """A load ends in an exception and is answered with 500; the next one is well."""
    run.ready()
    assert run.refused("/load", {"model": "broken"}) == 500
    run.calm(0.5)
    run.post("/load", {"model": "iris"})
    run.classify(40)


def ends(run: Run) -> None:
    """The load at import raises, and with it the server ends."""
    assert run.process is not None
    run.process.wait(60)


def mid_load(run: Run) -> None:
    """SIGTERM while the model is loaded."""
    run.ready("/live")
    time.sleep(0.5)


def _failed(stored: Stored) -> list[str]:
    rows = stored.lifecycle(event_outcome="failure")
    return [] if rows else ["no transition says that the load failed: " + ", ".join(
        f"{row['before']} to {row['phase']} by {row['trigger']}" for row in stored.lifecycle())]


def _reconstructed(stored: Stored) -> list[str]:
    found = {row["evidence"] for row in stored.lifecycle(trigger="adopted")}
    return [] if found == {"reconstructed"} else [f"adopted, and by evidence: {', '.join(sorted(found)) or 'no transition'}"]


def later(run: Run) -> None:
    """Long enough for the agent to find everything, with requests."""
    run.calm(2.0)
    complete(run) if run.server.name.endswith("llama.cpp") else run.classify(20)


def served(run: Run) -> None:
    """Loaded and serving for a while when the agent comes."""
    run.ready()
    complete(run) if run.server.name.endswith("llama.cpp") else run.classify(20)


_ONE = ("make_joblib.py", "iris.joblib")
_LARGE = ("make_joblib.py", "iris.joblib=large")
_SLOW = ("make_joblib.py", "iris.joblib=slow")
_BROKEN = {"broken": Model("broken.joblib")}

SERVERS = [
    Server("child of a load", LAZY, IRIS, ten_minutes_later, make=("make_joblib.py", "iris.joblib=spawning"), variables=LAZILY,
           # By origin where the load was read from less than 100 ms before; else it is a shell in a server.
           expects=("shell_in_load|exec_in_serve",)),
    Server("weights deleted after open", LAZY, IRIS, deleted, make=_LARGE, variables=LAZILY),
    Server("weights in page cache", LAZY, IRIS, cached, make=_LARGE, variables=LAZILY),
    Server("two threads, one file", LAZY, IRIS, two_threads, make=_SLOW, variables=LAZILY),
    Server("load that raises", LAZY, {**IRIS, **_BROKEN}, raises, make=("make_joblib.py", "iris.joblib", "broken.joblib=broken"),
           variables=LAZILY),
    Server("load at import that raises", (*UVICORN, "plain_app:app"), _BROKEN, ends, stop=None,
           make=("make_joblib.py", "broken.joblib=broken"), check=_failed,
           variables={"MODEL_PATH": "{models}/broken.joblib", "LABEL": "broken"}),
    Server("SIGTERM in mid-load", (*UVICORN, "background_app:app"), IRIS, mid_load, make=_SLOW, variables=MODEL_PATH,
           health="/live", check=_failed),
    Server("agent late: uvicorn", (*UVICORN, "plain_app:app"), IRIS, served, make=_ONE, variables=MODEL_PATH,
           agent_late=True, traceless=True, later=later),
    Server("agent late: gunicorn preload", (*GUNICORN, "--preload", "plain_app:app"), IRIS, served, make=_ONE,
           variables={**SIBLINGS, "PRELOAD": "1"}, agent_late=True, traceless=True, later=later),
    Server("agent late: llama.cpp", LLAMA, LITTLE, served, make=("make_llama.py",), agent_late=True, later=later,
           check=_reconstructed),
]
