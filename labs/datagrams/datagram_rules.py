"""What recvfrom gives and what it drops: message bounds, short buffers, empty datagrams, a full socket buffer."""

from __future__ import annotations

import contextlib
import json
import select
import socket

PATIENCE_SECONDS = 5.0
SENT = 2_000
LONG_BYTES = 1_000


def listening() -> socket.socket:
    """A datagram socket on a port of its own."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(PATIENCE_SECONDS)
    return sock


def fetched(sock: socket.socket, most: int) -> int:
    """Bytes that one recvfrom gives with a buffer of `most`. Windows says aloud that the rest is gone."""
    try:
        return len(sock.recvfrom(most)[0])
    except OSError as error:
        if getattr(error, "winerror", 0) == 10040:  # WSAEMSGSIZE: the buffer was filled, the rest dropped
            return most
        raise


def stream_bytes() -> int:
    """Three messages of ten bytes on a stream, all of them there: what one receive gives."""
    with socket.create_server(("127.0.0.1", 0)) as door, socket.create_connection(door.getsockname()) as client:
        server = door.accept()[0]
        with server:
            server.settimeout(PATIENCE_SECONDS)
            for _ in range(3):
                client.sendall(b"ten bytes.")
            while len(server.recv(100, socket.MSG_PEEK)) < 30:
                pass
            return len(server.recv(100))


def kept() -> int:
    """How many of SENT datagrams are there for a server that comes late."""
    with listening() as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        for _ in range(SENT):
            with contextlib.suppress(OSError):  # BSD may say ENOBUFS: lost, and told for once
                client.sendto(bytes(LONG_BYTES), server.getsockname())
        count = 0
        while select.select([server], [], [], 0.1)[0]:
            server.recvfrom(LONG_BYTES)
            count += 1
        return count


with listening() as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
    for text in (b"ten bytes.", b"ten bytes.", b"", b"the end"):
        client.sendto(text, server.getsockname())
    datagram = fetched(server, 100)
    piece = fetched(server, 4)
    empty = fetched(server, 100)
    after = fetched(server, 100)

there = kept()
print(json.dumps({
    "datagram_bytes": datagram, "stream_bytes": stream_bytes(), "cut_bytes": piece,
    "rest_kept": int(empty != 0), "served_after_empty": int(after == len(b"the end")),
    "sent": SENT, "kept": there, "lost_share": 1 - there / SENT,
}))
