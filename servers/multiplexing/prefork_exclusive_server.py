"""Several processes share one listening socket, and a new client wakes only one of them (EPOLLEXCLUSIVE).

Everything is as in the prefork model with plain epoll, but for one bit of interest in the listening socket. It cures
the thundering herd, and shows another trait: the kernel always wakes the first in its list that sleeps, so while
little happens one worker gets nearly all clients.

A worker out of descriptors may be the one that is woken; then that client waits until the next one comes or
a descriptor is free. Linux 4.5 or later.
"""

from __future__ import annotations

import os
import select
import socket

from servers.contract import run
from servers.multiplexing.prefork_epoll_server import options, start_worker

REQUIRES = ("os.fork", "select.epoll", "select.EPOLLEXCLUSIVE")


def serve(listener: socket.socket, processes: int = 4) -> None:
    interest = select.EPOLLIN | select.EPOLLEXCLUSIVE
    for _ in range(processes):
        start_worker(listener, interest)
    while True:
        os.wait()
        start_worker(listener, interest)


if __name__ == "__main__":
    run(serve, REQUIRES, options=options)
