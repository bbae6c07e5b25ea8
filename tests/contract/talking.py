"""What the tests of servers do as clients: connect, ask, flood, pump, and wait for things with a deadline."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Iterable
from typing import Any, Protocol

DEADLINE = 20.0
"""Seconds that anything may take before it counts as hung; nothing waits that long when all is well."""

QUIET = 0.3
"""Seconds of silence after which a socket counts as stuck."""


class Addressed(Protocol):
    """Something that listens."""

    address: tuple[str, int]


def eventually(condition: Any, what: str, seconds: float = DEADLINE) -> None:
    """Waits until condition() is true; fails after the deadline."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"never so: {what}"
        time.sleep(0.02)


def settled(figure: Any) -> Any:
    """figure() once it has stayed the same for a moment: pools start their workers after READY."""
    last = [figure()]

    def same() -> bool:
        time.sleep(0.1)
        last.append(figure())
        return bool(last[-1] == last[-2])

    eventually(same, "the figure settles")
    return last[-1]


def connect(server: Addressed, receive_buffer: int = 0) -> socket.socket:
    """A client's socket. receive_buffer: bytes the kernel may hold for it (0: the kernel's choice)."""
    client = socket.socket()
    client.settimeout(DEADLINE)
    if receive_buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 262_144)  # a smaller one would trickle
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.connect(server.address)
    return client


def receive(client: socket.socket, count: int) -> bytes:
    """Exactly `count` bytes, or fewer if the server closes before."""
    pieces = []
    while count and (piece := client.recv(min(count, 1 << 20))):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def ask(client: socket.socket, request: bytes = b"hello") -> None:
    """One request and its right answer."""
    client.sendall(request)
    assert receive(client, len(request)) == request.upper()


def flood(client: socket.socket, block: bytes, most: int = 0) -> int:
    """Sends without ever receiving: `block` once, or over and over up to `most` bytes, until the server takes no more.

    Returns the bytes sent. How many the kernel takes on the server's behalf differs: up to 32 MiB a connection.
    """
    client.settimeout(QUIET)
    view, sent, most = memoryview(block), 0, most or len(block)
    try:
        while sent < most:
            start = sent % len(block)
            sent += client.send(view[start : min(start + 65536, start + most - sent)])
    except TimeoutError:
        pass
    client.settimeout(DEADLINE)
    return sent


def pump(client: socket.socket, data: bytes, half_close: bool = False) -> bytes:
    """Sends `data` while receiving; returns what came back: as many bytes, or with half_close all until the end."""
    client.setblocking(False)
    view, sent, answer = memoryview(data), 0, bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(client, selectors.EVENT_READ | selectors.EVENT_WRITE)
        while half_close or len(answer) < len(data):
            ready = selector.select(DEADLINE)
            assert ready, f"stuck: {sent} bytes sent, {len(answer)} received"
            if ready[0][1] & selectors.EVENT_WRITE:
                sent += client.send(view[sent : sent + 65536])
                if sent == len(data):
                    selector.modify(client, selectors.EVENT_READ)
                    if half_close:
                        client.shutdown(socket.SHUT_WR)
            if ready[0][1] & selectors.EVENT_READ:
                if not (piece := client.recv(65536)):
                    break
                answer += piece
    client.settimeout(DEADLINE)
    return bytes(answer)


def answered(clients: Iterable[socket.socket], at_least: int, seconds: float = DEADLINE) -> list[socket.socket]:
    """Those clients that have something to receive: as soon as there are `at_least`, or when the time is over."""
    end = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client, selectors.EVENT_READ)
        ready: dict[socket.socket, None] = {}
        while len(ready) < at_least and (left := end - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                assert isinstance(key.fileobj, socket.socket)
                ready[key.fileobj] = None
                selector.unregister(key.fileobj)
    return list(ready)
