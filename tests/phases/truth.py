"""The truth about a server's life, said by the server itself in the *names* of files that it opens: stdlib only, Python 3.8 on.

A server of ``make phases`` imports this file (it lies beside the server's program) and tells what it does:
``with loading("iris"):`` around a load, ``Answers(app)`` around an ASGI application, ``mark("request")`` wherever something
should be judged. Each mark opens a new file in the folder MODELWARD_TRUTH:

    PHASE.MODEL.ROLE.ORIGIN.PID-NUMBER.truth

The agent knows nothing of these names. The score joins them with the tags that were stored for the opens.

- PHASE: ``start load warmup serve stop``; joined by ``+`` where DESIGN.md allows several.
- MODEL: the label of a model in the server's description, ``-`` for none; joined by ``+`` likewise. A process that holds several
  models names none outside a load.
- ROLE: what sort of thread it is (``loader``, ``request``, ``loop``, ``ticker``, ``child``, ...), for the score by role.
- ORIGIN: the label of the model in whose load the task was created, quiet at that moment or not; ``iris~``: created in the tail
  of it; ``-``: in none.

What is true without being told: before the first load ``start``; in the thread of a load ``load``; after it, in that thread and
until the process has answered, the load's tail (``load``) or what the process is in; ``warmup`` until the first answer after the
first load; then ``serve``; after SIGTERM ``stop``. Answers are told by :class:`Answers` where the process sends them itself; else
by the client of ``make phases``, through the times of two files that are looked at and never opened.
"""

import contextlib
import itertools
import os
import threading
import time

_DOUBT_NS = 50_000_000
"""So long an answer that another process sent may leave a load's tail going on, while the thread that loaded is at work."""
_numbers = itertools.count(1)
_lock = threading.RLock()


class _Life:
    """What this process has done so far. Times are wall clock nanoseconds."""

    def __init__(self):
        self.loading = {}  # thread -> labels, the innermost last
        self.tails = {}  # thread -> (label, when its load ended)
        self.doubts = {}  # the same -> when the client had the first answer after that, as far as was seen
        self.models = []  # labels, in the order they were loaded
        self.replaced = False  # a model has taken another's place: what the old one left behind cannot be seen
        self.failed = []  # labels of loads that raised: the kernel sees their end, and not how they ended
        self.first_loaded = 0
        self.served = False
        self.stopping = False
        self.sends_itself = False
        self.siblings = ()  # labels of models that other processes of the server hold
        self.sending = 0
        self.loaded_elsewhere = float("-inf")  # monotonic


_life = _Life()
origins = {}
"""Origin of the threads of each role, where it is not ``-``; of all roles that are not named: under ``*``."""


def _after_fork():
    """The thread that forked lives on in the child, with the tails and models of its parent."""
    global _lock
    _lock = threading.RLock()
    me = threading.get_ident()
    _life.loading = {thread: labels for thread, labels in _life.loading.items() if thread == me}
    _life.tails = {thread: tail for thread, tail in _life.tails.items() if thread == me}
    _life.sending = 0


os.register_at_fork(after_in_child=_after_fork)


def folder():
    """Where marks go; None when nobody asked for them."""
    return os.environ.get("MODELWARD_TRUTH")


def mark(role, phase=None, model=None, origin=None):
    """Open a file whose name says what is true now. What is given is said instead of what follows from this process' life."""
    where = folder()
    if not where:
        return
    with _lock:
        origin = origin or origins.get(role, origins.get("*", "-"))
        name = ".".join((phase or _phase("~" in origin), model or _model(), role, origin,
                         f"{os.getpid()}-{next(_numbers)}", "truth"))
        os.close(os.open(os.path.join(where, name), os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


@contextlib.contextmanager
def loading(label, role="loader", replaces=False):
    """Around a load, as closely as can be. ``replaces``: the model takes the place of one loaded before, which is dropped.

    A load that raises is marked and leaves no model.
    """
    me = threading.get_ident()
    with _lock:
        _life.loading.setdefault(me, []).append(label)
        _life.tails.pop(me, None)
    try:
        yield
    except BaseException:
        _end(me, label, well=False, replaces=False)
        raise
    _end(me, label, well=True, replaces=replaces)
    mark(role)


@contextlib.contextmanager
def loading_elsewhere(label):
    """Around a call that has a thread which cannot be marked load the model."""
    with _lock:
        _life.loading["elsewhere"] = [label]
    yield
    with _lock:
        del _life.loading["elsewhere"]
        _life.loaded_elsewhere = time.monotonic()
        _life.models.append(label)
        _life.first_loaded = _life.first_loaded or time.time_ns()


def _end(me, label, well, replaces):
    now = time.time_ns()
    with _lock:
        _life.loading[me].pop()
        if _life.loading[me]:
            return
        del _life.loading[me]
        _life.tails[me] = (label, now)
        if not well:
            _life.failed.append(label)
            return
        if label in _life.models or replaces:
            _life.replaced = _life.replaced or bool(_life.models)
            _life.models = [] if replaces else [m for m in _life.models if m != label]
        _life.models.append(label)
        _life.first_loaded = _life.first_loaded or now


def going():
    """The models of this process are being dropped: from now on the kernel may see that they are gone."""
    with _lock:
        _life.replaced = True


def unloaded(label, seen=False):
    """A model was dropped. ``seen``: in a way that the kernel sees, so that only the others are left."""
    with _lock:
        _life.models = [m for m in _life.models if m != label]
        _life.replaced = _life.replaced or not seen


class Answers:
    """ASGI middleware that knows when an answer is on the wire: after ``send`` has returned for its first line."""

    def __init__(self, app, role="loop"):
        self.app, self.role = app, role
        _life.sends_itself = True

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            await self.app(scope, self._until_shutdown(receive), send)
            return
        status = [0]

        async def told(message):
            if message["type"] == "http.response.start":
                status[0] = message["status"]
            counts = scope["type"] == "http" and 0 < status[0] < 400
            if not counts:
                await send(message)
                return
            begun = answer_begins()
            try:
                await send(message)
            finally:
                if answer_sent(begun):
                    mark(self.role)

        await self.app(scope, receive, told)

    def _until_shutdown(self, receive):
        async def heard():
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                stopping(self.role)
            return message

        return heard


def has_siblings(*labels):
    """Other processes of the server load these models and answer as well: theirs may count for this process."""
    _life.siblings = labels


def answer_begins():
    """For servers that are not ASGI: call before an answer is sent, and give the result to :func:`answer_sent`."""
    with _lock:
        _life.sends_itself = True
        _life.sending += 1
    return time.time_ns()


def answer_sent(begun):
    """An answer was sent: tails of loads that had ended before are over. True when it changed something."""
    with _lock:
        _life.sending -= 1
        over = [thread for thread, (_, ended) in _life.tails.items() if ended <= begun]
        for thread in over:
            del _life.tails[thread]
        first = not _life.served and 0 < _life.first_loaded <= begun
        _life.served = _life.served or first
        # One that goes on ends a stop, too.
        again, _life.stopping = _life.stopping, False
        return bool(over) or first or again


def stopping(role="main"):
    """The process has got SIGTERM or SIGINT and sends no more answers. :class:`Answers` says it at the end of an application."""
    with _lock:
        _life.stopping = True
    mark(role)


def tick(role="ticker", every_s=0.02, origin=None):
    """Mark again and again in a thread of its own, which never loads: what the process is in. To be called anew after a fork."""
    if origin:
        origins[role] = origin

    def run():
        while True:
            mark(role)
            time.sleep(every_s)

    threading.Thread(target=run, name=role, daemon=True).start()


def _phase(of_tail=False):
    me = threading.get_ident()
    # The signal is on its way, or has come and is not dealt with yet.
    ending = "+stop" if os.path.exists(os.path.join(os.environ.get("MODELWARD_CLIENT", ""), "ending")) else ""
    if me in _life.loading:
        return "load" + ending
    if _life.stopping:
        return "stop"
    _ask_client()
    rest = _process_phase()
    # Who came out of a tail is in it, too, until it ends.
    if (me in _life.tails or (of_tail and not _life.served)) and "load" not in rest.split("+"):
        rest = "load+" + rest
    return rest + ending


def _process_phase():
    others = bool(_life.loading)
    if _life.served:
        return "serve"
    if not _life.models:
        # The first load is in another thread: of this one it may be said or not, and 100 ms of quiet count as its end.
        begun = "load+start+warmup" if others or _life.tails else "start"
        return begun + ("+warmup+serve" if _life.failed else "")
    # Nobody marked while that thread loaded, if it held the interpreter: 100 ms of quiet, and a sweep, end its load.
    others = others or time.monotonic() - _life.loaded_elsewhere < 0.15
    return ("load+" if others else "") + "warmup" + ("+serve" if _possibly_answered() else "")


def _model():
    me = threading.get_ident()
    if me in _life.loading:
        return _life.loading[me][-1]
    if me in _life.tails:
        return _life.tails[me][0] + ("" if _life.models == [_life.tails[me][0]] and not _life.replaced else "+-")
    if len(_life.models) == 1:
        unsure = _life.replaced or _life.loading or _life.failed
        return _life.models[0] + ("+-" if unsure else "")
    if _life.models:
        return "-"
    begun = {label for labels in _life.loading.values() for label in labels}
    begun |= {label for label, _ in _life.tails.values()} | set(_life.failed) | set(_life.siblings)
    return "+".join(["-", *sorted(begun)])


def _client():
    """When the client sent its last request, when it sent the last one that was answered well, and when it had that answer."""
    where = os.environ.get("MODELWARD_CLIENT", "")
    try:
        asked, answered = os.stat(os.path.join(where, "asked")), os.stat(os.path.join(where, "answered"))
    except OSError:
        return 0, 0, 0
    return asked.st_mtime_ns, answered.st_atime_ns, answered.st_mtime_ns


def _ask_client():
    if _life.sends_itself:
        return
    _, asked, answered = _client()
    for thread, (_, ended) in list(_life.tails.items()):
        if ended <= asked and time.time_ns() > _life.doubts.setdefault((thread, ended), answered) + _DOUBT_NS:
            del _life.tails[thread]
    if 0 < _life.first_loaded <= asked:
        _life.served = True


def _possibly_answered():
    if _life.sending:
        return True
    if _life.sends_itself and not _life.siblings:
        return False
    last, asked, answered = _client()
    return last > asked or answered >= _life.first_loaded
