"""A thread per connection: each waits for its own client, so none waits for another.

The code of a conversation stays that of the blocking server; the operating system switches between
the threads whenever one of them has to wait.

Every connection costs a stack and a place in the scheduler. When the system grants no further thread
or descriptor, the next client waits until another one leaves.
"""

from __future__ import annotations

import socket
import threading

from servers.contract import BUFFER_BYTES, RETRY_SECONDS, run, transform

REQUIRES = ()


def serve(listener: socket.socket) -> None:
    left = threading.Event()  # somebody has left, so there is room
    while True:
        left.clear()
        try:
            connection, _ = listener.accept()
        except OSError:  # no descriptor left for it
            left.wait(RETRY_SECONDS)
            continue
        while True:
            try:
                threading.Thread(target=talk, args=(connection, left), daemon=True).start()
                break
            except RuntimeError:  # no thread left for it
                left.wait(RETRY_SECONDS)
                left.clear()


def talk(connection: socket.socket, left: threading.Event) -> None:
    """Serves one client until it says goodbye or vanishes."""
    try:
        with connection:
            while data := connection.recv(BUFFER_BYTES):
                connection.sendall(transform(data))
    except OSError:  # a reset by the client ends its conversation, not the server
        pass
    left.set()


if __name__ == "__main__":
    run(serve, REQUIRES)
