"""What a server of ``make phases`` is. How to add one:

1. A program in ``tests/phases/apps``: an ordinary server that also says what it does, by ``import truth`` (tests/phases/truth.py;
   it lies beside the program in a run): ``with truth.loading("iris"):`` tightly around the load, ``Answers(app)`` around an ASGI
   application, ``truth.mark("request")`` in handlers, ``truth.tick()`` once a process for a thread that marks all the time. A
   server that is not ASGI leaves ``Answers`` out: the client's view is used. Threads that were created in a load, or between its
   end and the first answer, have an origin: ``truth.origins["request"] = "-+iris~"``.
2. A description in a module of ``tests/phases/servers``, whose list ``SERVERS`` is found by itself::

       Server(
           name="litserve",
           requires=("litserve",),                  # a virtual environment of its own; () is the project's .venv
           argv=("{python}", "lit_app.py", "{port}"),   # also {bin} (the environment's bin), {models}, {state}
           make=("make_iris.py",),                  # run in that environment before, in the folder of models; arguments after it
           models={"iris": Model("iris.joblib")},   # label of the marks -> file below the folder of models
           story=story,                             # def story(run: Run): wait until ready, call, swap, unload
           listed=False,                            # not in servers.toml: tracked from its first artifact on
       )

3. ``python -m tests.phases --only litserve`` (as root; ``--keep`` leaves the folder with marks, logs and the stored rows).

``story`` gets a :class:`tests.phases.run.Run`: ``run.ready()``, ``run.get(path)``, ``run.post(path, body)``, ``run.models``
(folder), ``run.process``, ``run.wait_for(condition, what)``. While the server runs, ``health`` is asked every 50 ms from the
start on, whatever it answers. After the story the harness sends SIGTERM and scores. Files of models that are made or replaced
in the story are made by ``run.make(script, *arguments)``: in a process that is no server's.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.phases.run import Run
    from tests.phases.stored import Stored


@dataclass(frozen=True)
class Model:
    """What the agent must call a model."""

    path: str
    """The file below the folder of models; for a model of several files the one that identifies it, or their folder."""
    id: str = ""
    """``model.id``; the file's name without its extension when it is not given."""
    digest: str | None = None
    """``model.digest``; None: sha256 of the file, or not checked when ``path`` is a folder; "": not checked."""
    artifacts: tuple[str, ...] = ()
    """Other files below the folder of models that are read as parts of it; may end in ``*``."""

    @property
    def name(self) -> str:
        return self.id or self.path.rstrip("/").rpartition("/")[2].rpartition(".")[0]


def _nothing(run: Run) -> None:
    run.ready()


def _all_right(stored: Stored) -> list[str]:
    return []


@dataclass(frozen=True)
class Server:
    """One server, or one scenario with one."""

    name: str
    argv: tuple[str, ...]
    models: Mapping[str, Model]
    story: Callable[[Run], None] = _nothing
    requires: tuple[str, ...] = ()
    make: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    """More environment variables; ``{models}`` and the like are filled in."""
    health: str = "/health"
    listed: bool = True
    """Whether it stands in the agent's list of servers. Else marks before its first artifact are not expected to be stored."""
    expects: tuple[str, ...] = ()
    """Rules that must fire, ``|`` between those of which one is enough; any other that fires is a false alarm."""
    check: Callable[[Stored], list[str]] = _all_right
    """What else must be stored; gives what is wrong, in words."""
    stop: signal.Signals | None = signal.SIGTERM
    """How it is ended after the story; None when the story has ended it."""
    short: bool = False
    """Belongs to the subset that ``make test`` runs."""
    agent_late: bool = False
    """The agent starts after the story; then ``later`` goes on."""
    traceless: bool = False
    """Its model files are read and closed: an agent that comes late cannot know them."""
    later: Callable[[Run], None] = _nothing
    patience_s: float = 60.0
    """How long it may take to be ready."""
