"""A process per connection: like a thread for each, but nothing is shared.

The parent accepts and forks; the child inherits the connection, serves it and exits. A child that
crashes takes only its own client along.

A process is the dearest way to wait for one socket. When the system grants no further process, the
client just accepted, and those queued behind it, wait until a child exits.
"""

from __future__ import annotations

import os
import signal
import socket
import time

from servers.contract import BUFFER_BYTES, RETRY_SECONDS, fork, run, transform

REQUIRES = ("os.fork",)


def serve(listener: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries dead children: no zombies
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # no descriptor left for it
            time.sleep(RETRY_SECONDS)
            continue
        with connection:
            start_child(listener, connection)


def start_child(listener: socket.socket, connection: socket.socket) -> None:
    """Leaves the connection to a child of its own; waits while the system has no process to give."""
    while True:
        try:
            child = fork()
            break
        except OSError:
            time.sleep(RETRY_SECONDS)
    if child == 0:
        try:
            listener.close()
            talk(connection)
        finally:
            os._exit(0)


def talk(connection: socket.socket) -> None:
    """Serves one client until it says goodbye or vanishes."""
    try:
        while data := connection.recv(BUFFER_BYTES):
            connection.sendall(transform(data))
    except OSError:  # a reset by the client ends its conversation, not the server
        pass


if __name__ == "__main__":
    run(serve, REQUIRES)
