"""twisted.web: a tree of resources, HTTP parsed in Python, on a twisted reactor.

`POST /` with a body is answered with the body in capitals. A library, not an I/O model: its Site is a
protocol factory like any other, on the reactor that --reactor names. A body of 100,000 bytes or more is
collected in a temporary file, so there has to be room for one.

Its channel by itself goes on reading requests while the answers pile up, and takes a half-closed connection
for a closed one; Talk mends both. Out of descriptors, twisted accepts the newest client and hangs up on it.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from servers.contract import run, transform
from servers.event_loops.twisted_server import install, options

if TYPE_CHECKING:
    from twisted.web.server import Request

REQUIRES = ("twisted",)
PROTOCOL = "http"


def serve(listener: socket.socket, reactor: str = "default") -> None:
    install(reactor)
    from twisted.internet import reactor as loop
    from twisted.internet.interfaces import IHalfCloseableProtocol
    from twisted.web.http import HTTPChannel
    from twisted.web.resource import Resource
    from twisted.web.server import Site
    from zope.interface import implementer

    class Capitals(Resource):
        def render_POST(self, request: Request) -> bytes:
            return transform(request.content.read())

    @implementer(IHalfCloseableProtocol)
    class Talk(HTTPChannel):
        """Serves one client until it says goodbye or vanishes."""

        def pauseProducing(self) -> None:  # the client leaves too much output lying
            super().pauseProducing()
            self.transport.pauseProducing()

        def readConnectionLost(self) -> None:  # goodbye: send what is left, then close
            self.loseConnection()

        def writeConnectionLost(self) -> None:
            self.loseConnection()

    root = Resource()
    root.putChild(b"", Capitals())
    site = Site(root, timeout=None)
    site.protocol = Talk
    listener.setblocking(False)
    with listener:  # twisted works on a duplicate
        loop.adoptStreamPort(listener.fileno(), listener.family, site)
    loop.run()


if __name__ == "__main__":
    run(serve, REQUIRES, options=options)
