"""sanic: an asynchronous web framework that brings its own HTTP server, on uvloop where there is one.

`POST /` with a body is answered with the body in capitals. A library, not an I/O model: below routing,
middleware and signals lies an asyncio protocol, and below that the loop's poller. A body is read
to its end before the handler runs; one of more than 100 MB is refused with status 413.

Out of its box it hangs up on clients that are silent for a minute or two; here they may stay. Out of
descriptors, libuv under uvloop gives up one it holds in reserve, accepts the newest client and hangs up on it.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from servers.contract import run, transform

if TYPE_CHECKING:
    from sanic.request import Request
    from sanic.response import HTTPResponse

REQUIRES = ("sanic", "select.epoll or select.kqueue or asyncio.ProactorEventLoop")
PROTOCOL = "http"
PATIENCE_SECONDS = 24 * 60 * 60


def serve(listener: socket.socket) -> None:
    from sanic import Sanic
    from sanic.response import raw

    app = Sanic("capitals", configure_logging=False)
    app.config.update({"REQUEST_TIMEOUT": PATIENCE_SECONDS, "RESPONSE_TIMEOUT": PATIENCE_SECONDS,
                       "KEEP_ALIVE_TIMEOUT": PATIENCE_SECONDS})

    @app.post("/")
    async def capitals(request: Request) -> HTTPResponse:
        return raw(transform(request.body))

    app.run(sock=listener, single_process=True, access_log=False, motd=False)


if __name__ == "__main__":
    run(serve, REQUIRES)
