"""The outputs process: ``python -m modelward_collector.outputs``. The supervisor starts it when a webhook is set."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from typing import Any

from modelward_proto.settings import SettingsError

from modelward_collector import child, local_socket
from modelward_collector.outputs.delivery import Delivery
from modelward_collector.outputs.least import give_up_privileges
from modelward_collector.outputs.reading import Detections
from modelward_collector.outputs.state import State
from modelward_collector.outputs.webhook import Webhook
from modelward_collector.settings import CollectorSettings
from modelward_collector.web.store import Store

_log = logging.getLogger(__name__)

NAME = "webhook"
"""Of the output, in the tables and metrics."""


async def serve(settings: CollectorSettings, receiver: Webhook) -> None:
    """Deliver until a signal comes."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    folder = settings.folder
    store = Store(folder.store_target)
    store.open()
    state = State(NAME, receiver.shown)
    delivery = Delivery(
        Detections(store, NAME), receiver, state, min_severity=settings.webhook_min_severity,
        from_start=settings.webhook_from_start)

    async def answer(question: dict[str, Any]) -> dict[str, Any]:
        if "detection" in question:
            return {"outputs": [state.outcome(str(question["detection"]))]}
        return {"outputs": [state.answer()]}

    server = await local_socket.serve(folder.outputs_socket, answer)
    ear = local_socket.bind(folder.outputs_nudge, socket.SOCK_DGRAM)
    asyncio.get_running_loop().add_reader(ear, _hear, ear, delivery.woken)
    child.ready(receiver.shown)
    work = asyncio.create_task(delivery.run())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([work, stopping], return_when=asyncio.FIRST_COMPLETED)
    work.cancel()
    try:
        await work
    except asyncio.CancelledError:
        _log.debug("the output stops")
    finally:
        server.close()
        await receiver.close()
        await store.close()


def _hear(ear: socket.socket, woken: asyncio.Event) -> None:
    try:
        while ear.recv(64):
            woken.set()
    except BlockingIOError:
        return


def main() -> int:
    """Entry of the process."""
    settings = child.start(CollectorSettings)
    url, secret_file = settings.webhook_url, settings.webhook_secret_file
    if url is None or secret_file is None:
        raise SettingsError("there is no output to serve: webhook_url and webhook_secret_file are not set")
    os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", str(settings.folder.metrics))
    # The HTTP library logs each request with its URL, which may hold a token.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("httpcore").setLevel(logging.WARNING)
    # Its files may be readable by a right that is given up next.
    receiver = Webhook(url, secret_file, settings.webhook_ca, loopback=settings.webhook_is_local)
    give_up_privileges()
    asyncio.run(serve(settings, receiver))
    return 0


if __name__ == "__main__":
    sys.exit(main())
