"""``python -m modelward_collector.web``: the web process. The supervisor starts it."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Mapping

import uvicorn

from modelward_collector import child
from modelward_collector.settings import CollectorSettings, join_address, split_address
from modelward_collector.web.app import build
from modelward_collector.web.live import Live

log = logging.getLogger("modelward_collector.web")


class Server(uvicorn.Server):
    """Tells the supervisor when it serves, and ends its streams when it stops."""

    def __init__(self, config: uvicorn.Config, live: Live) -> None:
        super().__init__(config)
        self._live = live

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Bind, then report the address."""
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            child.ready(join_address(host, port))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams first, which would otherwise stay open until they are cut off."""
        self._live.end()
        await super().shutdown(sockets)


async def receivers_answer(settings: CollectorSettings) -> Mapping[str, bool]:
    """Whether agents find someone at the address that they were given."""
    host, port = split_address(settings.listen, "--listen")
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), 2)
        writer.close()
    except (OSError, TimeoutError):
        return {"receivers": False}
    return {"receivers": True}


def main() -> int:
    """Serve until SIGTERM or SIGINT."""
    settings = child.start(CollectorSettings)
    os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", str(settings.folder.metrics))
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    if not settings.http_token_file:
        log.warning("the page has no token: every account of this machine can read it; only root and the collector's user can "
                    "change something (--http-token-file asks everyone for a token)")
    host, port = split_address(settings.http, "--http")
    app = build(settings, lambda: receivers_answer(settings))
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        # Whoever connects could say in a header who he is, and changes are allowed by who connects.
        proxy_headers=False,
        lifespan="on",
        ws="none",
        limit_concurrency=500,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=2,
        h11_max_incomplete_event_size=65_536,
        ssl_certfile=settings.http_tls_cert,
        ssl_keyfile=str(settings.http_tls_key) if settings.http_tls_key else None,
    )
    server = Server(config, app.state.live)
    server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
