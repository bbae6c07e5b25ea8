"""Datagrams, one at a time: `recvfrom` waits for the next one and says who sent it.

There are no connections, so one socket serves all clients and none of them makes the others wait. What the
blocking stream server lacks, this one has for free.

What it lacks itself is every promise of a stream: a datagram may be lost, above all when the socket's
buffer is full because the server is too slow, and nobody is told.
"""

from __future__ import annotations

import socket

from servers.contract import run, transform

REQUIRES = ()
PROTOCOL = "udp"

DATAGRAM_BYTES = 65_535
"""No datagram is longer: the length field of UDP has 16 bits (RFC 768)."""


def serve(listener: socket.socket) -> None:
    while True:
        try:
            data, sender = listener.recvfrom(DATAGRAM_BYTES)
            listener.sendto(transform(data), sender)
        except OSError:  # an earlier answer did not reach its client (Windows tells), or this one cannot be sent
            pass


if __name__ == "__main__":
    run(serve, REQUIRES, kind=socket.SOCK_DGRAM)
