"""Signal-driven models when the queue of signals overflows: nothing may be lost."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import conformance as c
import psutil
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has F_SETSIG")
MODELS = {model.name: model for model in c.ALL_MODELS if model.path.parent.name == "signal_driven"}
PENDING_SIGNALS = 64


@pytest.fixture
def server(request: Any) -> Iterator[c.NativeServer]:
    """The model named by the parameter, with room for few signals."""
    running = c.start_natively(MODELS[request.param])
    psutil.Process(running.process.pid).rlimit(psutil.RLIMIT_SIGPENDING, (PENDING_SIGNALS, PENDING_SIGNALS))
    yield running
    os.kill(running.process.pid, signal.SIGCONT)
    living, log = running.alive(), running.stderr()
    running.stop()
    assert living and not log, log


def halt(server: c.NativeServer) -> None:
    os.kill(server.process.pid, signal.SIGSTOP)
    c.eventually(lambda: psutil.Process(server.process.pid).status() == psutil.STATUS_STOPPED, "it stands still")


def overflowed(server: c.NativeServer) -> bool:
    """Whether a plain SIGIO is pending, which the kernel sends when the queue has no room."""
    status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    return bool((int(fields["ShdPnd"], 16) | int(fields["SigPnd"], 16)) >> signal.SIGIO - 1 & 1)


@pytest.mark.parametrize("server", ["signal"], indirect=True)
def test_five_hundred_clients_lose_nothing_when_the_queue_overflows(server: c.NativeServer) -> None:
    clients = [c.connect(server) for _ in range(500)]
    for client in clients:
        c.ask(client)
    for turn in range(3):
        halt(server)
        for number, client in enumerate(clients):
            client.sendall(b"turn %d of client %03d" % (turn, number))
        newcomers = [c.connect(server) for _ in range(20)]  # the door's signals are lost as well
        for client in newcomers:
            client.sendall(b"hello")
        leaver = clients.pop()
        leaver.shutdown(socket.SHUT_WR)
        c.eventually(lambda: overflowed(server), "the queue overflows")
        os.kill(server.process.pid, signal.SIGCONT)
        for number, client in enumerate([*clients, leaver]):
            expected = b"TURN %d OF CLIENT %03d" % (turn, number)
            assert c.receive(client, len(expected)) == expected
        assert leaver.recv(1) == b""
        for client in newcomers:
            assert c.receive(client, 5) == b"HELLO"
            client.close()
        leaver.close()
    for client in clients:
        client.close()


@pytest.mark.parametrize("server", ["signal_recvfrom"], indirect=True)
def test_datagrams_outnumbering_the_queue_are_all_answered(server: c.NativeServer) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(c.DEADLINE)
        client.connect(server.address)
        halt(server)
        for number in range(150):  # fewer than the socket's buffer holds
            client.send(b"datagram %d" % number)
        c.eventually(lambda: overflowed(server), "the queue overflows")
        os.kill(server.process.pid, signal.SIGCONT)
        assert [client.recv(100) for _ in range(150)] == [b"DATAGRAM %d" % number for number in range(150)]
