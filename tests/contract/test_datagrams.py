"""Every datagram model (PROTOCOL = "udp"): each datagram that arrives is answered, whole, to whom it came from."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import conformance as c
import pytest

UDP_MODELS = [model for model in c.ALL_MODELS if model.protocol == "udp"]


@pytest.fixture(params=UDP_MODELS, ids=lambda model: model.name)
def server(request: Any) -> Iterator[c.NativeServer]:
    model = request.param
    if lacking := c.lacking(model):
        pytest.skip(f"{model.name}: this machine has no {', '.join(lacking)}")
    running = c.start_natively(model)
    yield running
    living, log = running.alive(), running.stderr()
    running.stop()
    assert living and not log, log


def client_of(server: c.NativeServer) -> socket.socket:
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(c.DEADLINE)
    client.connect(server.address)
    return client


def ask(client: socket.socket, data: bytes = b"hello") -> None:
    client.send(data)
    assert client.recv(70_000) == data.upper()


def test_boundaries_are_kept(server: c.NativeServer) -> None:
    with client_of(server) as client:
        for data in (b"a", b"", bytes(range(256)), b"x" * 1472, b"y" * 9000, b"after"):
            ask(client, data)


def test_the_longest_datagram(server: c.NativeServer) -> None:
    with client_of(server) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 100_000)
        try:
            client.send(b"z" * 65_507)  # 65,535 less the headers of IP and UDP
        except OSError:
            pytest.skip("this system sends no datagram of 65,507 bytes")
        assert client.recv(70_000) == b"Z" * 65_507


def test_every_client_gets_its_own_answers(server: c.NativeServer) -> None:
    clients = [client_of(server) for _ in range(50)]
    for number, client in enumerate(clients):
        client.send(b"client %d" % number)
    for number, client in enumerate(clients):
        assert client.recv(100) == b"CLIENT %d" % number
        client.close()


def test_a_client_that_has_left_harms_nobody(server: c.NativeServer) -> None:
    for _ in range(20):
        with client_of(server) as gone:
            gone.send(b"goodbye")
    with client_of(server) as client:
        for _ in range(20):
            ask(client)


def test_idle_costs_nothing(server: c.NativeServer) -> None:
    with client_of(server) as client:
        ask(client)
        before = server.cpu()
        time.sleep(1)
        assert server.cpu() - before < 0.05
        ask(client)


def test_there_are_blocking_polling_and_signal_driven_ones() -> None:
    assert {"recvfrom", "recvfrom_select", "signal_recvfrom"} <= {model.name for model in UDP_MODELS}
    for model in UDP_MODELS:
        assert len(model.path.read_text(encoding="utf-8").splitlines()) < 100
        assert isinstance(model.requires, tuple) and model.docstring.splitlines()[0].endswith(".")
