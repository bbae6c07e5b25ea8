"""Several processes, each with an epoll of its own, share one listening socket: the thundering herd.

Forked ahead (prefork), every worker serves many clients and all of them watch the same listening socket. So
several CPUs work. But one new client makes it readable for everybody: all idle workers wake up,
one gets the client, the others find nobody there and go back to sleep.

Once accepted, a client stays with its worker; nothing balances the load. A worker that dies takes its
clients along and is replaced.
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import time

from servers.contract import EXHAUSTED, RETRY_SECONDS, fork, run
from servers.multiplexing.epoll_server import talk

REQUIRES = ("os.fork", "select.epoll")


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--processes", type=int, default=4, help="workers that share the port (default: %(default)s)")


def serve(listener: socket.socket, processes: int = 4) -> None:
    for _ in range(processes):
        start_worker(listener)
    while True:
        os.wait()
        start_worker(listener)


def start_worker(listener: socket.socket, interest: int = getattr(select, "EPOLLIN", 0)) -> None:
    """Forks one worker; waits while the system has no process to give."""
    while True:
        try:
            worker = fork()
            break
        except OSError:
            time.sleep(RETRY_SECONDS)
    if worker == 0:
        try:
            work(listener, interest)
        finally:
            os._exit(1)


def work(listener: socket.socket, interest: int) -> None:
    """What each process does: the whole of the epoll server. interest: what it watches the listening socket for."""
    listener.setblocking(False)
    clients: dict[int, socket.socket] = {}  # by descriptor
    pending: dict[int, bytes] = {}  # what is left to send, where the kernel did not take it all
    door = listener.fileno()
    poller = select.epoll()
    poller.register(door, interest)
    full = False
    while True:
        ready = poller.poll(RETRY_SECONDS if full else None)
        if full:  # there may be room again
            poller.register(door, interest)
            full = False
        for descriptor, _ in ready:
            if descriptor == door:
                try:
                    connection, _ = listener.accept()
                except OSError as error:  # another worker was faster, or no descriptor is left for it
                    if full := error.errno in EXHAUSTED:
                        poller.unregister(door)  # it stays readable: watching it would spin
                else:
                    connection.setblocking(False)
                    clients[connection.fileno()] = connection
                    poller.register(connection.fileno(), select.EPOLLIN)
                continue
            before = pending.pop(descriptor, b"")
            left = talk(clients[descriptor], before)
            if left is None:
                clients.pop(descriptor).close()  # the kernel forgets a closed descriptor by itself
            elif left:
                poller.modify(descriptor, select.EPOLLOUT)  # read on when this has gone
                pending[descriptor] = left
            elif before:
                poller.modify(descriptor, select.EPOLLIN)


if __name__ == "__main__":
    run(serve, REQUIRES, options=options)
