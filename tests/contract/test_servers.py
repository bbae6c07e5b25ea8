"""The conformance suite: every server model found in servers/, against real sockets and processes.

A test asks `server(model)` for a running one. Another backend runs the same tests by overriding the fixture
`start_server` with its own starter (see conformance.py).
"""

from __future__ import annotations

import random
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import conformance as c
import pytest
from conformance import Limits, Model, Server, ask, connect, nature, receive

EVERY_BYTE = bytes(range(256))
EIGHT_MEGABYTES = random.Random(8).randbytes(8_000_000)
MORE_THAN_THE_KERNEL_TAKES = 128_000_000
"""Bytes. On Linux a connection's receive buffer grows up to 32 MiB, and the server's send buffer holds 4 more."""

Start = Callable[..., Server]


@pytest.fixture
def start_server() -> Start:
    """The starter: override it to run the suite elsewhere."""
    return c.start_if_offered


@pytest.fixture
def server(start_server: Start) -> Iterator[Start]:
    """Starts servers and stops them at the end; checks that they are still alive then."""
    started: list[Server] = []

    def start(model: Model, *arguments: str, **limits: int) -> Server:
        started.append(start_server(model, arguments, Limits(**limits)))
        return started[-1]

    yield start
    for one in started:
        living, log = one.alive(), one.stderr()
        one.stop()
        assert living, f"the server died; its stderr:\n{log}"
        assert "Traceback" not in log, log


def each(models: list[Model]) -> Any:
    return pytest.mark.parametrize("model", models, ids=lambda model: model.name)


every_model = each(c.TCP_MODELS)


def all_served(clients: list[socket.socket]) -> None:
    """Every client (each has sent b"hello") gets its answer when those before it leave."""
    waiting = set(clients)
    while waiting:
        ready = c.answered(waiting, 1)
        assert ready, f"{len(waiting)} of {len(clients)} clients were never answered"
        for client in ready:
            assert receive(client, 5) == b"HELLO"
            client.close()
            waiting.remove(client)


def survives(client: socket.socket) -> bool:
    """Whether this client (it has sent b"hello") was answered and not hung up on."""
    try:
        return receive(client, 5) == b"HELLO"
    except ConnectionError:
        return False


def reset(client: socket.socket) -> None:
    """Leaves without a goodbye."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0))
    client.close()


# What every model does


@every_model
def test_bytes_cut_anywhere(server: Start, model: Model) -> None:
    with connect(server(model)) as client:
        for value in EVERY_BYTE:
            client.sendall(bytes([value]))
        assert receive(client, 256) == EVERY_BYTE.upper()
        rest, cut = EVERY_BYTE * 100, random.Random(1)
        expected = rest.upper()
        while rest:
            size = cut.randint(1, 2000)
            client.sendall(rest[:size])
            rest = rest[size:]
        assert receive(client, len(expected)) == expected


@every_model
def test_eight_megabytes_through_a_slow_reader(server: Start, model: Model) -> None:
    with connect(server(model), receive_buffer=16384) as client:
        sent = c.flood(client, EIGHT_MEGABYTES, MORE_THAN_THE_KERNEL_TAKES)
        assert sent < MORE_THAN_THE_KERNEL_TAKES, "the server was never kept from sending"
        turns, rest = divmod(sent, len(EIGHT_MEGABYTES))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 262_144)  # the rest need not come by drops
        answer = c.pump(client, b"the end", half_close=True)
        right = answer == (EIGHT_MEGABYTES * turns + EIGHT_MEGABYTES[:rest] + b"the end").upper()
        assert right, f"{len(answer)} bytes came back for {sent + 7}, or wrong ones"  # a diff of them takes minutes


@every_model
def test_half_close_is_answered_to_the_end(server: Start, model: Model) -> None:
    running = server(model)
    for data in (b"", b"last words", EIGHT_MEGABYTES[:1_000_000]):
        with connect(running) as client:
            right = c.pump(client, data, half_close=True) == data.upper()
            assert right, len(data)


@every_model
def test_resets_end_only_their_own_conversation(server: Start, model: Model) -> None:
    running = server(model)
    bystander = connect(running) if nature(model).serves_at_once != 1 else None
    if bystander:
        ask(bystander)
    for _ in range(2):
        early, talking, stuffed = connect(running), connect(running), connect(running, receive_buffer=16384)
        reset(early)
        ask(talking)
        talking.sendall(b"x" * 50_000)
        reset(talking)
        c.flood(stuffed, EIGHT_MEGABYTES)
        reset(stuffed)
    for client in [bystander, connect(running)] if bystander else [connect(running)]:
        ask(client)
        client.close()


@every_model
def test_a_client_that_never_reads_stalls_only_itself(server: Start, model: Model) -> None:
    running = server(model)
    with connect(running, receive_buffer=16384) as deaf:
        ask(deaf)  # whatever a client costs has been paid when the memory is measured
        before = c.settled(running.memory)
        sent = c.flood(deaf, EIGHT_MEGABYTES, MORE_THAN_THE_KERNEL_TAKES)
        assert sent < MORE_THAN_THE_KERNEL_TAKES, "the server never stopped reading"
        assert running.memory() - before < 4_000_000
        if nature(model).serves_at_once != 1:
            for _ in range(3):
                with connect(running) as other:
                    ask(other)
        spent = running.cpu()
        time.sleep(0.4)
        assert nature(model).busy_when_idle or running.cpu() - spent < 0.1, "the server spins on the stalled client"


@every_model
def test_waits_when_descriptors_run_out_and_goes_on(server: Start, model: Model) -> None:
    limit = 40
    running = server(model, descriptors=limit)
    clients = [connect(running) for _ in range(60)]
    for client in clients:
        client.sendall(b"hello")
    expected = nature(model).serves_at_once or (limit // 2 if nature(model).descriptors_in_one_process else 60)
    first = c.answered(clients, expected)
    assert len(first) >= expected
    before = running.cpu()
    time.sleep(0.5)
    assert nature(model).busy_when_idle or running.cpu() - before < 0.1, "it spins while it waits for a descriptor"
    if nature(model).refuses_without_descriptors:
        held = [client for client in c.answered(clients, 60) if survives(client)]
        assert limit // 2 <= len(held) < limit
        for client in clients:
            client.close()
        with connect(running) as late:
            return ask(late)
    if nature(model).descriptors_in_one_process:
        assert len(c.answered(clients, 60, c.QUIET)) < limit, "the limit was never reached"
    all_served(clients)


@every_model
def test_two_hundred_clients_come_and_go(server: Start, model: Model) -> None:
    running = server(model)
    with connect(running) as client:
        ask(client)
    settled = c.settled(running.descriptors)
    for _ in range(10):
        clients = [connect(running) for _ in range(20)]
        for client in clients:
            client.sendall(b"hello")
        all_served(clients)
    c.eventually(lambda: running.descriptors() <= settled, "all descriptors are given back")
    c.eventually(lambda: running.zombies() == 0, "no zombie is left")


@every_model
def test_idle_costs_nothing_but_for_the_busy_poll(server: Start, model: Model) -> None:
    running = server(model)
    clients = [connect(running) for _ in range(20)]
    for client in clients[: nature(model).serves_at_once]:
        ask(client)
    before, start = running.cpu(), time.monotonic()
    time.sleep(0.6)
    load = (running.cpu() - before) / (time.monotonic() - start)
    # A spin would take a whole CPU; on a crowded machine it gets what is left of one.
    assert load > 0.3 if nature(model).busy_when_idle else load < 0.1
    for client in clients:
        client.close()
