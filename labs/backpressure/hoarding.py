"""An echo server before a client that sends 32 MiB and reads nothing: with and without a bound on unsent answers.

One thread plays both sides, each non-blocking; it ends when neither can move any more.
"""

from __future__ import annotations

import json
import select
import socket

SENT = 32 << 20
BUFFER_BYTES = 16 * 1024
BOUND_BYTES = 64 * 1024
"""Where a server with a bound stops reading."""
REST_SECONDS = 0.2
"""Nothing can move for so long: nothing will."""


def echo(bound: float) -> tuple[int, int]:
    """(bytes the server keeps in its own memory at the end, bytes the client got rid of)."""
    with socket.create_server(("127.0.0.1", 0)) as door, socket.create_connection(door.getsockname()) as client:
        server = door.accept()[0]
        with server:
            client.setblocking(False)
            server.setblocking(False)
            request, sent, pending = memoryview(bytes(SENT)), 0, bytearray()
            while True:
                writing = [client] * (sent < SENT) + [server] * bool(pending)
                readable, writable, _ = select.select([server] * (len(pending) < bound), writing, [], REST_SECONDS)
                if not (readable or writable):
                    break
                if client in writable:
                    sent += client.send(request[sent:])
                if server in readable:
                    pending += server.recv(BUFFER_BYTES)
                if server in writable:
                    del pending[:server.send(pending[:BUFFER_BYTES])]
            return len(pending), sent


hoarded, swallowed = echo(float("inf"))
held, taken = echo(BOUND_BYTES)
print(json.dumps({"hoarded_bytes": hoarded, "held_bytes": held, "hoarded_over_held_times": hoarded / max(held, 1),
                  "taken_share": taken / SENT, "swallowed_share": swallowed / SENT}))
