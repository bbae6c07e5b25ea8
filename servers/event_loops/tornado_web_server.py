"""tornado.web: a handler class per resource, HTTP parsed in Python, on asyncio's event loop.

`POST /` with a body is answered with the body in capitals. A library, not an I/O model: its
HTTPServer is a TCPServer whose streams speak HTTP. A body is read to its end before the handler runs; one
of more than 100 MB is refused. Every answer gets an ETag, a hash of its body.

tornado takes a client that has finished sending for one that has gone: what the kernel has not taken of
its answer by then is dropped.
"""

from __future__ import annotations

import asyncio
import socket

from servers.contract import run, transform
from servers.event_loops.tornado_server import PatientListener

REQUIRES = ("tornado",)
PROTOCOL = "http"


def serve(listener: socket.socket) -> None:
    asyncio.run(serve_forever(listener))


async def serve_forever(listener: socket.socket) -> None:
    from tornado.httpserver import HTTPServer
    from tornado.web import Application, RequestHandler

    class Capitals(RequestHandler):
        def post(self) -> None:
            self.finish(transform(self.request.body))

    listener.setblocking(False)
    server = HTTPServer(Application([("/", Capitals)], log_function=lambda handler: None))
    server.add_sockets([PatientListener(fileno=listener.detach())])
    await asyncio.Event().wait()  # for ever


if __name__ == "__main__":
    run(serve, REQUIRES)
