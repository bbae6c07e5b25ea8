"""A fixed number of processes, forked ahead (prefork): each serves one client after another.

All of them wait in `accept` on the listening socket they inherited, and the system hands every new
client to one of them. The parent only watches: it replaces a worker that dies.

As with a pool of threads, with 4 processes the fifth client waits until one of the four leaves.
"""

from __future__ import annotations

import argparse
import os
import socket
import time

from servers.contract import BUFFER_BYTES, RETRY_SECONDS, fork, run, transform

REQUIRES = ("os.fork",)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--processes", type=int, default=4, help="clients served at once (default: %(default)s)")


def serve(listener: socket.socket, processes: int = 4) -> None:
    for _ in range(processes):
        start_worker(listener)
    while True:
        os.wait()
        start_worker(listener)


def start_worker(listener: socket.socket) -> None:
    """Forks one worker; waits while the system has no process to give."""
    while True:
        try:
            worker = fork()
            break
        except OSError:
            time.sleep(RETRY_SECONDS)
    if worker == 0:
        try:
            work(listener)
        finally:
            os._exit(1)


def work(listener: socket.socket) -> None:
    """What each process does: the whole of the blocking server."""
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
