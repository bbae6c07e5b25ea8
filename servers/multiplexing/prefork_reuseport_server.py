"""Several processes, each with a listening socket of its own on the same port (SO_REUSEPORT).

The kernel gives each new client to one of the sockets, chosen by a hash of the addresses: no herd, for nobody else
hears of it, and the load spreads by chance. The workers share nothing but the number of the port.

A client is bound to the socket it was given: if that worker is busy it waits there, even while others are
idle, and if the worker dies it is lost. So no socket may stay open that nobody accepts from. The meaning is Linux's:
macOS and BSD allow the option but do not balance.
"""

from __future__ import annotations

import os
import socket

from servers.contract import BACKLOG, announce, listen, run
from servers.multiplexing.prefork_epoll_server import options, start_worker

REQUIRES = ("os.fork", "select.epoll", "socket.SO_REUSEPORT")


def serve(listener: socket.socket, processes: int = 4) -> None:
    host, port = listener.getsockname()[:2]
    with listener:  # the first worker serves this one, and here it is closed
        start_worker(listener)
    for _ in range(processes - 1):
        start_another(host, port)
    announce(host, port)  # not before: the first worker would get everybody
    while True:
        os.wait()
        start_another(host, port)


def start_another(host: str, port: int) -> None:
    """Starts a worker with a new socket on the port, which is then the worker's alone."""
    with listen(host, port, BACKLOG, reuse_port=True) as listener:
        start_worker(listener)


if __name__ == "__main__":
    run(serve, REQUIRES, options=options, reuse_port=True)
