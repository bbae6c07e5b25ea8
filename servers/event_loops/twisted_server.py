"""twisted's Protocol: the pattern that asyncio's protocols come from, on a reactor of your choice.

A reactor is an event loop around one poller: --reactor names select, poll, epoll, or asyncio, on whose
loop it then rides. Producers and consumers keep the balance: a transport whose output piles up (64 KiB)
tells its producer to pause. Here a client's answers come from its own questions, so each
transport is registered as its own producer.

Its limits: with select, select's. Out of descriptors, twisted gives up one that it holds in reserve to
accept the newest client and hang up on it: nobody waits, late comers are turned away.
"""

from __future__ import annotations

import argparse
import importlib
import select
import socket

from servers.contract import missing, run, transform

REQUIRES = ("twisted",)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reactor", choices=("default", "select", "poll", "epoll", "asyncio"), default="default",
                        help="the poller under the loop (default: what twisted thinks best here)")


def install(reactor: str) -> None:
    """Makes the reactor of that name the process's own."""
    if reactor == "default" and hasattr(select, "epoll") and missing(("select.epoll",)):
        reactor = "poll"  # twisted goes by the name; here it is there and the kernel refuses the call
    importlib.import_module(f"twisted.internet.{reactor}{'' if reactor == 'default' else 'reactor'}").install()


def serve(listener: socket.socket, reactor: str = "default") -> None:
    install(reactor)
    from twisted.internet import reactor as loop
    from twisted.internet.interfaces import IHalfCloseableProtocol
    from twisted.internet.protocol import Factory, Protocol
    from zope.interface import implementer

    @implementer(IHalfCloseableProtocol)
    class Talk(Protocol):
        """Serves one client until it says goodbye or vanishes."""

        def connectionMade(self) -> None:
            self.transport.registerProducer(self.transport, streaming=True)

        def dataReceived(self, data: bytes) -> None:
            self.transport.write(transform(data))

        def readConnectionLost(self) -> None:  # goodbye: send what is left, then close
            self.transport.unregisterProducer()
            self.transport.loseConnection()

        def writeConnectionLost(self) -> None:
            self.transport.loseConnection()

    listener.setblocking(False)
    with listener:  # twisted works on a duplicate
        loop.adoptStreamPort(listener.fileno(), listener.family, Factory.forProtocol(Talk))
    loop.run()


if __name__ == "__main__":
    run(serve, REQUIRES, options=options)
