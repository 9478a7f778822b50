"""Questions between the collector's own processes: one line of JSON each way, over a unix socket in the data folder.

Only root and the collector's own user are answered: the socket's mode says so, and the kernel's word on the peer is checked.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)

MOST_LINE = 256 << 10
QUESTION_S = 5.0
"""A peer that connects and asks nothing is not waited for longer."""

Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


def bind(path: Path, kind: socket.SocketKind) -> socket.socket:
    """A socket at ``path`` for this user alone; what an earlier run left there is replaced."""
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK)
    before = os.umask(0o177)
    try:
        made.bind(os.fspath(path))
    except BaseException:
        made.close()
        raise
    finally:
        os.umask(before)
    return made


async def serve(path: Path, answer: Answer) -> asyncio.Server:
    """Answer questions until the returned server is closed. What ``answer`` raises is logged and ends that connection."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if may_ask(writer.get_extra_info("socket")):
                line = await asyncio.wait_for(reader.readline(), QUESTION_S)
                question = json.loads(line or b"null")
                if isinstance(question, dict):
                    writer.write(json.dumps(await answer(question)).encode() + b"\n")
                    await asyncio.wait_for(writer.drain(), QUESTION_S)
        except (OSError, ValueError, TimeoutError) as e:
            _log.debug("a question on a local socket was not answered", extra={"socket": path.name, "error": str(e)})
        except Exception:
            _log.exception("a question on a local socket failed", extra={"socket": path.name})
        finally:
            writer.close()

    return await asyncio.start_unix_server(connected, sock=bind(path, socket.SOCK_STREAM), limit=MOST_LINE)


async def ask(path: Path, question: dict[str, Any], timeout_s: float = 3.0) -> dict[str, Any] | None:
    """The answer of the process that serves ``path``; None when there is none in time."""
    writer = None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(os.fspath(path), limit=MOST_LINE)
            writer.write(json.dumps(question).encode() + b"\n")
            found = json.loads(await reader.readline() or b"null")
            return found if isinstance(found, dict) else None
    except (OSError, ValueError, TimeoutError):
        return None
    finally:
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def may_ask(peer: socket.socket) -> bool:
    """Whether the process at the other end runs as root or as our own user (SO_PEERCRED, unix(7))."""
    _, user, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return user in (0, os.geteuid())
