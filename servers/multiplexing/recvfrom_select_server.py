"""A poller over datagrams: select() says that one is there, then they are fetched without waiting.

For a single socket this is one system call more than waiting in `recvfrom`, and saves nothing. It pays where the
thread has other sockets to watch, or where many datagrams are there at once: they are all fetched
after one call of select().

As with every datagram server: what finds no room in the socket's buffer is lost, and nobody is told.
"""

from __future__ import annotations

import select
import socket

from servers.contract import run, transform

REQUIRES = ("select.select",)
PROTOCOL = "udp"

DATAGRAM_BYTES = 65_535
"""No datagram is longer: the length field of UDP has 16 bits (RFC 768)."""


def serve(listener: socket.socket) -> None:
    listener.setblocking(False)
    while True:
        select.select([listener], (), ())
        drain(listener)


def drain(listener: socket.socket) -> None:
    """Answers every datagram that is there. Never waits."""
    while True:
        try:
            data, sender = listener.recvfrom(DATAGRAM_BYTES)
            listener.sendto(transform(data), sender)
        except BlockingIOError:  # nothing is left, or no room to send: then the answer is lost
            return
        except OSError:  # an earlier answer did not reach its client, or this one cannot be sent
            pass


if __name__ == "__main__":
    run(serve, REQUIRES, kind=socket.SOCK_DGRAM)
