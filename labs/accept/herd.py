"""Who wakes up when one client knocks: eight workers wait for the same port, in four ways.

Counted are the voluntary context switches of all workers: each of them is a worker that had slept. The next client
knocks only when everybody sleeps again. A worker accepts and hangs up at once, so nothing else wakes it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

if sys.platform != "linux" or not hasattr(select, "EPOLLEXCLUSIVE"):
    print(f"{sys.platform}: EPOLLEXCLUSIVE and /proc are Linux's", file=sys.stderr)
    raise SystemExit(69)

WORKERS = 8
CLIENTS = 100
PATIENCE_SECONDS = 10.0


def door(reuse: bool = False) -> socket.socket:
    sock = socket.socket()
    if reuse:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return sock


def by_epoll(listener: socket.socket, flags: int = 0) -> None:
    listener.setblocking(False)
    with select.epoll() as poller:
        poller.register(listener, select.EPOLLIN | flags)
        while True:
            poller.poll()
            with contextlib.suppress(BlockingIOError):  # another worker was faster
                greet(listener.accept()[0])


def by_accept(listener: socket.socket) -> None:
    while True:
        greet(listener.accept()[0])


def greet(client: socket.socket) -> None:
    """Tells the client who has accepted it, and hangs up."""
    with client:
        client.send(os.getpid().to_bytes(4, "big"))


def asleep(worker: int) -> bool:
    return Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def switches(worker: int) -> int:
    for line in Path(f"/proc/{worker}/status").read_text().splitlines():
        if line.startswith("voluntary_ctxt_switches"):
            return int(line.split()[1])
    raise ValueError("the kernel counts no context switches")


def settle(workers: list[int]) -> None:
    """Waits until everybody sleeps."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not all(asleep(worker) for worker in workers):
        if time.monotonic() > deadline:
            raise TimeoutError("the workers do not come to rest")


def herd(serve: Callable[[socket.socket], None], own_sockets: bool = False) -> tuple[float, float]:
    """(context switches per client, share of the clients that the busiest worker got)."""
    listeners = [door(own_sockets)]
    listeners[0].bind(("127.0.0.1", 0))
    address = listeners[0].getsockname()
    if own_sockets:
        for _ in range(WORKERS - 1):
            listeners.append(door(own_sockets))
            listeners[-1].bind(address)
    for listener in listeners:
        listener.listen(64)
    workers: list[int] = []
    try:
        for number in range(WORKERS):
            worker = os.fork()
            if worker == 0:
                try:
                    serve(listeners[number % len(listeners)])
                finally:
                    os._exit(1)
            workers.append(worker)
        accepted = dict.fromkeys(workers, 0)
        before = 0
        for client in range(CLIENTS + WORKERS):  # the first ones wait until every worker has started
            if client == WORKERS:
                accepted = dict.fromkeys(workers, 0)
                before = sum(map(switches, workers))
            settle(workers)
            with socket.create_connection(address) as knocking:
                accepted[int.from_bytes(knocking.recv(4), "big")] += 1
        settle(workers)
        woken = sum(map(switches, workers)) - before
        return woken / CLIENTS, max(accepted.values()) / CLIENTS
    finally:
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
            os.waitpid(worker, 0)
        for listener in listeners:
            listener.close()


plain, _ = herd(by_epoll)
exclusive, exclusive_busiest = herd(lambda listener: by_epoll(listener, select.EPOLLEXCLUSIVE))
waiting, waiting_busiest = herd(by_accept)
reuse, reuse_busiest = herd(by_epoll, own_sockets=True)
print(json.dumps({
    "plain_switches": plain, "exclusive_switches": exclusive, "accept_switches": waiting, "reuseport_switches": reuse,
    "exclusive_busiest_share": exclusive_busiest, "accept_busiest_share": waiting_busiest,
    "reuseport_busiest_share": reuse_busiest,
}))
