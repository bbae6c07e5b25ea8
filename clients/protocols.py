"""What requests look like and which answers are right. One class per protocol; PROTOCOLS names them.

A protocol lends each connection a ring of exchanges, all computed beforehand. Connections walk the
ring from different places, so that an answer that is stale, reordered or another connection's is wrong.
"""

from __future__ import annotations

import random
import socket
from typing import Protocol

from clients.http_reader import HttpReader

RING = 251  # exchanges, a prime: neighbours in step stay apart
STEP = 67  # bytes from one exchange's message to the next one's
PERIOD = 1_048_573  # the pseudo-random stream repeats after so many bytes, a prime
SMALL = 16 * 1024  # up to here each exchange has bytes of its own; longer ones are views of one stream
BLOCK = 64 * 1024  # what is received at a time of longer ones
HEAD_BYTES = 1024  # an HTTP answer's head, at most, for its answer to be taken whole by one receive

_OTHERS = b"\x00\xff\n\r\t 0123456789@[`{AMZ~\x7f\x80\x9f\xb5\xdf\xe0\xe4\xe9\xf6\xfc\xfe"
_ALPHABET = bytes(ord("a") + n % 26 if n < 192 else _OTHERS[n % len(_OTHERS)] for n in range(256))


class Exchange:
    """A request of `length` bytes and its answer's text: answer[offset:offset + size]. `next` is the one that follows.

    whole: what a complete right answer looked like on the wire, head and all; None while that is not known.
    """

    __slots__ = ("answer", "length", "next", "offset", "request", "size", "whole")

    def __init__(self, request: bytes | memoryview, answer: bytes, offset: int, size: int) -> None:
        self.request, self.answer, self.offset, self.size = request, answer, offset, size
        self.length, self.next, self.whole = len(request), self, None if offset else answer

    def wrong(self, position: int, part: bytes) -> str | None:
        """What is wrong with `part` as the bytes of the answer's text from `position` on."""
        start = self.offset + position
        return None if self.answer.startswith(part, start) else difference(self.answer, start, part, position)


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


def ring_of(size: int, head: bytes = b"") -> list[Exchange]:
    """Exchanges with different messages of `size` bytes, each request with `head` before it.

    Long ones are views of one stream, in which they overlap; there the heads lie between, and so within the others.
    """
    ring = []
    if size <= SMALL:
        stream = stream_of(size + RING * STEP)
        for start in range(0, RING * STEP, STEP):
            message = stream[start:start + size]
            ring.append(Exchange(head + message, message.upper(), 0, size))
    else:
        step, room = (SMALL // 4 + 1, len(head)) if head else (STEP, 0)
        mixed = bytearray(stream_of(room + size + RING * step))
        starts = range(room, room + RING * step, step)
        if head:
            for start in starts:
                mixed[start - room:start] = head
        stream = bytes(mixed)
        upper, view = stream.upper(), memoryview(stream)
        ring = [Exchange(view[start - room:start + size], upper, start, size) for start in starts]
    for one, following in zip(ring, ring[1:] + ring[:1], strict=True):
        one.next = following
    return ring


def stream_of(length: int) -> bytes:
    """The same pseudo-random bytes each time: mostly lower case, the rest bytes that must stay as they are."""
    period = random.Random(2024).randbytes(min(length, PERIOD)).translate(_ALPHABET)
    return (period * (length // len(period) + 1))[:length]


def difference(answer: bytes, start: int, part: bytes, position: int) -> str:
    """Where `part` departs from answer[start:], counted in bytes of the message from `position` on."""
    at = next(n for n, byte in enumerate(part) if start + n >= len(answer) or byte != answer[start + n])
    return f"byte {position + at}: expected 0x{answer[start + at]:02x}, got 0x{part[at]:02x}"


PROTOCOLS: dict[str, type[Tcp]] = {"tcp": Tcp, "udp": Udp, "http": Http}
