"""One client at a time: every call waits until it is done.

`accept` waits for a client, `recv` waits for that client's next bytes, `sendall` waits until the
kernel has taken the answer. While it waits it costs nothing; but it waits for *one* socket, so the
second client is not even accepted before the first has left.
"""

from __future__ import annotations

import socket
import time

from servers.contract import BUFFER_BYTES, RETRY_SECONDS, run, transform

REQUIRES = ()


def serve(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # no descriptor left for it
            time.sleep(RETRY_SECONDS)
            continue
        with connection:
            talk(connection)


def talk(connection: socket.socket) -> None:
    """Serves one client until it says goodbye or vanishes."""
    try:
        while data := connection.recv(BUFFER_BYTES):
            connection.sendall(transform(data))
    except OSError:  # a reset by the client ends its conversation, not the server
        pass


if __name__ == "__main__":
    run(serve, REQUIRES)
