"""io_uring: the ring by itself, many clients and much data, and what happens if buffers do not live long enough."""

from __future__ import annotations

import os
import platform
import random
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from typing import Any

import conformance as c
import pytest

from servers.asynchronous import ring as rings
from servers.asynchronous.ring import RECV, SEND, Ring

pytestmark = pytest.mark.skipif(not hasattr(rings, "IO_URING"), reason="this machine grants no io_uring")
(MODEL,) = [model for model in c.ALL_MODELS if model.name == "io_uring"]


@pytest.fixture
def ring() -> Iterator[Ring]:
    one = Ring(4)
    yield one
    one.close()


def collect(ring: Ring, count: int) -> list[Any]:
    completions: list[Any] = []
    while len(completions) < count:
        completions += ring.wait()
    return completions


def test_more_operations_than_the_ring_has_places(ring: Ring) -> None:
    pairs = [socket.socketpair() for _ in range(50)]
    for left, _ in pairs:
        ring.recv(left.fileno(), bytearray(16))
    for number, (_, right) in enumerate(pairs):
        ring.send(right.fileno(), bytearray(b"%d" % number))
    completions = collect(ring, 100)
    received = {one.descriptor: bytes(one.buffer[: one.result]) for one in completions if one.operation == RECV}
    assert received == {left.fileno(): b"%d" % number for number, (left, _) in enumerate(pairs)}
    assert sum(one.operation == SEND for one in completions) == 50
    assert not ring.lent, "every buffer has been given back"
    for pair in pairs:
        for one in pair:
            one.close()


def test_a_buffer_is_lent_until_its_completion_and_cannot_move(ring: Ring) -> None:
    left, right = socket.socketpair()
    with left, right:
        buffer = bytearray(16)
        ring.recv(left.fileno(), buffer)
        ring.enter(0)
        assert [one[2] for one in ring.lent.values()] == [buffer]
        right.send(b"data")
        (completion,) = ring.wait()
        assert completion.buffer is buffer and buffer[: completion.result] == b"data" and not ring.lent


def test_a_failure_is_a_result_not_an_exception(ring: Ring) -> None:
    left, right = socket.socketpair()
    number = left.fileno()
    left.close()
    right.close()
    ring.recv(number, bytearray(16))
    ring.timeout(0.01)
    assert {one.result for one in collect(ring, 2)} == {-9, -62}  # EBADF, ETIME


def test_two_hundred_clients_and_fifty_megabytes_without_a_wrong_byte() -> None:
    running = c.start_natively(MODEL)
    try:
        data = random.Random(50).randbytes(50_000_000)
        answers: list[bytes] = []
        with c.connect(running) as big:
            transfer = threading.Thread(target=lambda: answers.append(c.pump(big, data)))
            transfer.start()
            clients = [c.connect(running) for _ in range(200)]
            for turn in range(5):
                for number, client in enumerate(clients):
                    client.sendall(b"turn %d of %d" % (turn, number))
                for number, client in enumerate(clients):
                    expected = b"TURN %d OF %d" % (turn, number)
                    assert c.receive(client, len(expected)) == expected
            transfer.join(60)
            same = answers == [data.upper()]
            assert same  # without showing 50 MB of difference
            for client in clients:
                client.close()
    finally:
        running.stop()


SERVER_THAT_FREES_EARLY = textwrap.dedent("""
    import sys
    from servers import contract
    from servers.asynchronous import io_uring_server, ring

    class FreesEarly(ring.Ring):
        def keep(self, number, operation, descriptor, buffer):
            if operation == int(sys.argv[1]):
                buffer = bytearray(buffer)  # keeps a copy: the one that the kernel knows is freed
            super().keep(number, operation, descriptor, buffer)

    listener = contract.listen("127.0.0.1", 0, 16)
    print(listener.getsockname()[1], flush=True)
    io_uring_server.serve(listener, FreesEarly)
""")


def first_wrong_answer(operation: int) -> bytes | None:
    """What a server that frees the buffers of one operation early answers, if it is wrong within 20 requests.

    glibc is told to overwrite what is freed, so that the outcome does not depend on chance; b"" is a crash.
    """
    environment = os.environ | {"PYTHONMALLOC": "malloc", "MALLOC_PERTURB_": "165",
                                "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}
    process = subprocess.Popen([sys.executable, "-c", SERVER_THAT_FREES_EARLY, str(operation)], cwd=c.ROOT,
                               env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        address = "127.0.0.1", int(process.stdout.readline())
        for _ in range(20):
            with socket.create_connection(address, 5) as client:
                client.settimeout(5)
                client.sendall(b"hello" * 200)
                try:
                    answer = c.receive(client, 1000)
                except ConnectionResetError:
                    answer = b""
                if answer != b"HELLO" * 200:
                    return answer
        return None
    finally:
        process.kill()
        _, log = process.communicate()
        assert "Traceback" not in log, log


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc overwrites freed memory on demand")
def test_buffers_freed_before_their_completion_give_wrong_answers() -> None:
    assert first_wrong_answer(-1) is None, "no operation has that number: every buffer lives"
    wrong = first_wrong_answer(SEND)
    assert wrong is not None and len(wrong) == 1000, "the kernel sent what the memory held by then"
    assert first_wrong_answer(RECV) is not None, "the kernel received into memory of somebody else"
