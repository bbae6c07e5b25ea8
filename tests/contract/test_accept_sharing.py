"""How prefork models share the accept: who wakes up for a new client, and who gets it."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from typing import Any

import conformance as c
import psutil
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="epoll, EPOLLEXCLUSIVE and the balance are Linux's")
MODELS = {model.name: model for model in c.ALL_MODELS if model.name.startswith("prefork_")}
WORKERS = 4
every_model = pytest.mark.parametrize("server", MODELS, indirect=True)


@pytest.fixture
def server(request: Any) -> Iterator[c.NativeServer]:
    running = c.start_natively(MODELS[request.param], ("--processes", str(WORKERS)))
    c.eventually(lambda: len(workers(running)) == WORKERS, "all workers run")
    c.eventually(lambda: c.settled(lambda: wakeups(running)) is not None, "and sleep")
    yield running
    living, log = running.alive(), running.stderr()
    running.stop()
    assert living and not log, log


def workers(server: c.NativeServer) -> list[psutil.Process]:
    return server.tree()[1:]


def wakeups(server: c.NativeServer) -> int:
    """How often the workers have gone to sleep, all together."""
    return sum(worker.num_ctx_switches().voluntary for worker in workers(server))


def held(server: c.NativeServer) -> list[int]:
    """Established connections of each worker."""
    return [sum(one.status == psutil.CONN_ESTABLISHED for one in worker.net_connections("tcp"))
            for worker in workers(server)]


def arrive(server: c.NativeServer, count: int) -> list[socket.socket]:
    """So many clients, each when the one before has been accepted and all workers sleep again."""
    clients: list[socket.socket] = []
    descriptors = server.descriptors()
    for _ in range(count):
        clients.append(c.connect(server))
        c.eventually(lambda: server.descriptors() == descriptors + len(clients), "the client is accepted")
    c.settled(lambda: wakeups(server))
    return clients


def switches_per_client(server: c.NativeServer) -> float:
    before = wakeups(server)
    clients = arrive(server, 40)
    switches = wakeups(server) - before
    for client in clients:
        client.close()
    return switches / len(clients)


@pytest.mark.parametrize("server", ["prefork_epoll"], indirect=True)
def test_plain_epoll_wakes_the_herd(server: c.NativeServer) -> None:
    assert switches_per_client(server) > 2.5  # each of the 4 wakes up, but now and then one is late


@pytest.mark.parametrize("server", ["prefork_exclusive", "prefork_reuseport"], indirect=True)
def test_the_others_wake_one(server: c.NativeServer) -> None:
    assert switches_per_client(server) < 2


@pytest.mark.parametrize("server", ["prefork_exclusive"], indirect=True)
def test_exclusive_wakes_the_same_again_and_again(server: c.NativeServer) -> None:
    clients = arrive(server, 40)
    assert max(held(server)) > 30
    for client in clients:
        client.close()


def test_reuse_port_spreads_from_the_first_client_on() -> None:
    running = c.start_natively(MODELS["prefork_reuseport"], ("--processes", str(WORKERS)))
    try:
        clients = [c.connect(running) for _ in range(400)]  # at once after READY
        for client in clients:
            c.ask(client)
        assert min(held(running)) > 60 and max(held(running)) < 140  # 100 each, with a standard deviation of 9
        for client in clients:
            client.close()
    finally:
        running.stop()


@every_model
def test_a_dead_worker_is_replaced_and_no_client_waits_in_vain(server: c.NativeServer) -> None:
    for worker in workers(server):
        worker.kill()
        c.eventually(lambda gone=worker: gone.pid not in {one.pid for one in workers(server)}
                     and len(workers(server)) == WORKERS, "it is replaced")
    c.settled(lambda: wakeups(server))
    parent = server.tree()[0]
    if "reuseport" in " ".join(parent.cmdline()):
        assert not parent.net_connections("tcp"), "the parent holds a socket that it never accepts from"
        assert all(len(worker.net_connections("tcp")) == 1 for worker in workers(server))
    clients = [c.connect(server) for _ in range(40)]
    for client in clients:
        c.ask(client)
        client.close()
