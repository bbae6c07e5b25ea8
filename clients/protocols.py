"""How requests and answers go over the wire. One class per protocol; PROTOCOLS names them.

A protocol lends each connection a ring of exchanges. Connections walk the ring from different places,
so that an answer that is stale, reordered or another connection's is wrong.
"""

from __future__ import annotations

import socket
from typing import Protocol

from clients.exchanges import RING, SMALL, Exchange, ring_of
from clients.http_reader import HttpReader

BLOCK = 64 * 1024  # what is received at a time of longer ones
HEAD_BYTES = 1024  # an HTTP answer's head, at most, for its answer to be taken whole by one receive


class Reader(Protocol):
    """Reads the answers of one connection, in whatever pieces they come."""

    refusal: str | None
    """Set when an answer is complete that was no answer but, say, "HTTP 500"."""
    closing: bool
    """The server has said that this answer is the connection's last."""

    def check(self, exchange: Exchange, data: bytes) -> tuple[int, bool, str | None]:
        """Looks at `data`, which came after what was looked at before.

        Returns how many bytes of it belong to this answer, whether the answer is complete, and what is wrong.
        Raises ValueError where it cannot be told where this answer ends.
        """


class Dialogue(Protocol):
    """What the engine asks of a protocol."""

    kind: socket.SocketKind
    receive_bytes: int
    """What one receive asks for."""
    exact: bool
    """An answer may be compared with `exchange.whole`."""

    def exchange(self, number: int) -> Exchange: ...

    def reader(self) -> Reader: ...


class StreamReader:
    """The bare text, as long as the request."""

    __slots__ = ("position",)
    refusal: str | None = None
    closing = False

    def __init__(self) -> None:
        self.position = 0

    def check(self, exchange: Exchange, data: bytes) -> tuple[int, bool, str | None]:
        position = self.position
        used = min(len(data), exchange.size - position)
        wrong = exchange.wrong(position, data if used == len(data) else data[:used])
        complete = position + used == exchange.size
        self.position = 0 if complete else position + used
        return used, complete, wrong


class Tcp:
    """The echo in capitals: the answer is as long as the request, byte for byte."""

    kind = socket.SOCK_STREAM

    def __init__(self, message_bytes: int, pipeline: int) -> None:
        self.exact = message_bytes <= SMALL
        self.receive_bytes = message_bytes * min(pipeline, 64) if self.exact else BLOCK
        self._ring = ring_of(message_bytes)

    def exchange(self, number: int) -> Exchange:
        return self._ring[number * 7 % RING]

    def reader(self) -> Reader:
        return StreamReader()


class Http(Tcp):
    """HTTP/1.1: the message is the body of a POST, its capitals the body of the answer."""

    def __init__(self, message_bytes: int, pipeline: int) -> None:
        self.exact = message_bytes <= SMALL
        self.receive_bytes = (HEAD_BYTES + message_bytes) * min(pipeline, 64) if self.exact else BLOCK
        self._ring = ring_of(message_bytes, post(message_bytes))
        for one in self._ring:
            one.whole = None  # until the server's head is known

    def reader(self) -> Reader:
        return HttpReader()


class Udp(Tcp):
    """One datagram asks, one answers. clients/datagrams.py numbers them and knows no stream, so nothing is exact."""

    kind = socket.SOCK_DGRAM

    def __init__(self, message_bytes: int, pipeline: int) -> None:
        super().__init__(message_bytes, pipeline)
        self.exact, self.receive_bytes = False, BLOCK


def post(length: int) -> bytes:
    """The head of a request with a body of so many bytes."""
    return b"POST / HTTP/1.1\r\nHost: server\r\nContent-Length: %d\r\n\r\n" % length


PROTOCOLS: dict[str, type[Tcp]] = {"tcp": Tcp, "udp": Udp, "http": Http}
