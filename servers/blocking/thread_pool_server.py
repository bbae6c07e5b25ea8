"""A fixed number of threads: each serves one client after another.

All threads wait in `accept` on the same listening socket, and the system hands every new client to one
of them. No thread is made while clients come and go, and the number of threads has a bound.

So has the number of clients served: with 8 threads the ninth client waits in the system's accept
queue until one of the eight leaves, even if those eight say nothing at all.
"""

from __future__ import annotations

import argparse
import socket
import threading
import time

from servers.contract import BUFFER_BYTES, RETRY_SECONDS, run, transform

REQUIRES = ()


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, default=8, help="clients served at once (default: %(default)s)")


def serve(listener: socket.socket, threads: int = 8) -> None:
    for _ in range(threads - 1):
        threading.Thread(target=work, args=(listener,), daemon=True).start()
    work(listener)


def work(listener: socket.socket) -> None:
    """What each thread does: the whole of the blocking server."""
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
    run(serve, REQUIRES, options=options)
