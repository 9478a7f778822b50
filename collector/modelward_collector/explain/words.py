"""The words of the explanation: what terms, hooks, transitions and classes mean to somebody who reads of them for the first "
"time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Row = Mapping[str, Any]

TERMS = {
    "detection": "a rule matched: something happened that a healthy model server does not do",
    "hook": "a place inside the Linux kernel where a small program of the agent runs each time something happens, such as "
    "the start "
    "of a program. What is watched does not notice it and cannot switch it off",
    "door": "one and the same thing can be seen at several hooks; the door is the one that this host offers and the agent took",
    "phase": "where a model server is in its life: start (it comes up), load (it reads a model file), warmup (the file is read, "
    "nothing was answered yet), serve (it answers requests), stop (it ends)",
    "evidence": "how the agent knows: observed (the kernel reported each step as it happened), reconstructed (the agent "
    "began later "
    "and worked it out from what was open), declared (the program said so itself)",
    "scope": "one load on one thread, from the opening of the model file on. While it is open, all that this thread does and "
    "starts "
    "belongs to the load; 100 ms after the last read it becomes its tail, and the first answer closes it",
    "origin": "the load in which a process was created. A process keeps it for life, so that one that waits and acts later "
    "is still "
    "tied to the load that planted it",
    "instance": "one load of one model in one process; its number is never used again",
    "digest": "the sha256 of the model file. The same digest is the same file, byte for byte, whatever it is called",
    "workload": "one model server with all processes that came from it: its container, or else the first process and its "
    "descendants",
    "process chain": "which program started which, from the first process of the workload to the one that did it",
    "rule": "a description of what should not happen, with its reason; a text file that anyone can read and change",
    "loss": "events that were seen and did not arrive. Every step between kernel and store counts, so that a gap shows",
}

PHASES = {
    "unknown": "in a phase that is not known",
    "start": "still starting up",
    "load": "loading a model",
    "warmup": "done with reading a model, and had not answered yet",
    "serve": "answering requests",
    "stop": "ending",
}

EVIDENCE = {
    "observed": "The kernel reported each step as it happened",
    "reconstructed": "The agent began after the load did and worked the phase out from the files and sockets that were open, "
    "so a step "
    "before that may be missing",
    "declared": "The program said so itself. It may only make the rules stricter, because a malicious model could say anything",
}

TRIGGERS = {
    "none": "",
    "exec": "a program that is known as a model server was started",
    "artifact_open": "it opened a model file",
    "quiet": "no model file was read for 100 ms, so loading was over",
    "answer": "an answer went out over the network",
    "signal": "it was told to end by a signal",
    "exit": "the process ended",
    "adopted": "the agent began later and found it running",
    "unload": "the model was unloaded",
    "reopened": "it read a model file again",
    "probe_enter": "it called a function that loads models",
    "probe_return": "the function that loads models came back",
    "inference": "it computed its first answer with the model",
    "device": "it set up a GPU",
    "artifact_read": "the first bytes that it read are those of a model file, whatever its name says",
    "artifact_map": "it mapped a model file into its memory",
    "declared": "the program said so itself",
    "late": "the file turned out to be a model only after it had been opened",
}
"""What made a transition, as the end of a sentence."""

REFUSED_WORDS = "it declared a phase in which more is allowed, which was refused"


EFFECTS = {
    "exec": ("exec", "the start of a program"),
    "fork": ("fork", "the birth of a process"),
    "exit": ("exit", "the end of a process"),
    "file_open": ("file_open", "the opening of a file"),
    "connect": ("connect", "an outgoing connection"),
    "listen": ("listen", "a port that is opened for others"),
    "lifecycle": ("artifact_io", "the reading of a model file"),
    "canary": ("exec", "the start of a program"),
}
"""Event name to the effect in the host's list of doors, and to what it is in words."""

_DOORS = (
    ("lsm/", "a security hook, which the kernel passes before it allows the action"),
    ("fentry/", "the entry of a function of the kernel"),
    ("fexit/", "the end of a function of the kernel"),
    ("cgroup/", "a hook that the kernel passes before a connection leaves the machine"),
    ("tp_btf/", "a fixed reporting point of the kernel"),
    ("tracepoint/syscalls/", "the entry and the end of the system call, the request by which a program asks the kernel for it"),
    ("tracepoint/", "a fixed reporting point of the kernel"),
    ("iter/", "a walk over all processes"),
)

_PROGRAMS = {
    "shell": "a shell",
    "downloader": "a download tool",
    "network_tool": "a network tool",
    "interpreter": "a language interpreter",
    "compiler": "a compiler",
    "probe_helper": "a helper that looks at the machine",
    "package_manager": "a package manager",
    "privilege": "a tool that changes rights or other parts of the system",
}

_FILES = {
    "artifact": "a model file",
    "credential": "a file with keys or passwords",
    "cloud_credential": "a file with credentials of a cloud",
    "startup_hook": "a file that is run at a start or a login",
    "system_config": "a system setting",
    "library": "a program library",
    "python_code": "Python code",
    "proc": "information of the kernel",
    "device": "a device",
    "gpu_device": "a GPU",
    "temp": "a temporary file",
    "shm": "shared memory",
    "runtime_socket": "a socket that controls containers or services",
    "jit_cache": "a cache of compiled code",
}

_PLACES = {
    "loopback": "this machine itself",
    "private": "a private network",
    "link_local": "the local network",
    "metadata": "the cloud's metadata service, which hands out credentials",
    "multicast": "a group of machines",
    "public": "the internet",
    "unix": "a local socket",
}

_ACCESS = {"read": "for reading", "write": "for writing", "read_write": "for reading and writing", "none": ""}


def door(name: str) -> str:
    """What sort of hook a door is."""
    return next((words for start, words in _DOORS if name.startswith(start)), "a hook of the kernel")


def program(row: Row) -> str:
    """The base name of a row's program and its pid: ``dash (process 4711)``."""
    base = str(row["process_executable_path"]).rpartition("/")[2] or "a program"
    return f"{base} (process {row['process_pid']})"


_OUTCOMES = {"failure": ", which failed", "attempted": " (whether it succeeded was not seen)"}


def deed(row: Row) -> str:
    """What an event is, as the end of a sentence whose subject is the process."""
    name = row["event_name"]
    words = _DEEDS[name](row) if name in _DEEDS else f"did {name}"
    outcome = "" if name == "lifecycle" else _OUTCOMES.get(row.get("event_outcome", ""), "")
    count = int(row.get("count") or 1)
    return f"{words}{outcome}{f', {count:,} times' if count > 1 else ''}"


def _exec(row: Row) -> str:
    kind = _PROGRAMS.get(row.get("process_executable_class", ""), "")
    return f"ran {row['process_executable_path']}{f', {kind}' if kind else ''}: {row['process_command_line']}"


def _open(row: Row) -> str:
    kind = _FILES.get(row.get("file_class", ""), "")
    access = _ACCESS.get(row.get("file_access", ""), "")
    return f"opened {row['file_path']}{f' {access}' if access else ''}{f': {kind}' if kind else ''}"


def _connect(row: Row) -> str:
    address, port = row["destination_address"], row["destination_port"]
    place = _PLACES.get(row.get("destination_class", ""), "")
    return f"connected to {address}{f' port {port}' if int(port) else ''}{f' ({place})' if place else ''}"


def _exit(row: Row) -> str:
    signal = int(row.get("process_exit_signal") or 0)
    return f"was ended by signal {signal}" if signal else f"ended with status {row.get('process_exit_code', 0)}"


def refused(row: Row) -> bool:
    """Whether a lifecycle row is a declaration that was refused: the phase that it names was not taken."""
    return bool(row["lifecycle_trigger"] == "declared" and row.get("event_outcome") == "failure")


def cause(row: Row) -> str:
    """What made a transition: ``it opened a model file, /srv/tiny.gguf``."""
    trigger, path, detail = str(row["lifecycle_trigger"]), row.get("file_path", ""), row.get("lifecycle_detail", "")
    words = REFUSED_WORDS if refused(row) else TRIGGERS.get(trigger, trigger)
    if detail:
        words += f" ({detail})"
    if path and trigger in _OF_A_FILE:
        words += f", {path}"
    return words


_OF_A_FILE = ("artifact_open", "reopened", "artifact_read", "artifact_map", "late", "unload")


def _lifecycle(row: Row) -> str:
    before, after, words = row["lifecycle_from"], row["lifecycle_phase"], cause(row)
    if refused(row):
        return f"stayed {before} and not {after}: {words}"
    change = f"now {after}" if before in (after, "unknown") else f"from {before} to {after}"
    failed = "; the load had failed" if row.get("event_outcome") == "failure" else ""
    return f"{change}: {words}{failed}" if words else f"{change}{failed}"


_DEEDS: dict[str, Callable[[Row], str]] = {
    "exec": _exec,
    "fork": lambda row: "was made as a copy of its parent (fork)",
    "exit": _exit,
    "file_open": _open,
    "connect": _connect,
    "listen": lambda row: f"opened port {row['destination_port']} for others",
    "lifecycle": _lifecycle,
    "model_identity": lambda row: f"had its model identified: {row['model_id']}",
    "library": lambda row: f"mapped a library with functions that load models: {row['file_path']}",
    "loss": lambda row: f"lost events of kind {row['loss_kind']} at the step '{row['loss_hop']}'",
    "canary": lambda row: f"ran a harmless test of the alarm: {row['process_command_line']}",
    "agent_silent": lambda row: "was not heard of any more",
    "agent_twice": lambda row: "was heard of from two agents at once",
}
