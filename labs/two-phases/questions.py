"""Two questions to a call that reads: does it hold the caller up, and does the caller have to come for the bytes?

Four ways to read are asked both questions, by trying. Then: which calls of a socket would wait when the other end does
nothing? A call that would wait says so on a non-blocking socket, by BlockingIOError.
"""

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

SILENCE = 0.1
"""Seconds for which the other end says nothing. A call that took half of it was held up."""

PATIENCE = 0.4
"""Seconds after which a byte that still lies in the kernel is fetched by nobody."""


def connection() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection on loopback: ours, theirs."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        return listener.accept()[0], theirs


# --- two questions ---------------------------------------------------------------------------------------------------


def ask(blocking: bool, start: Callable[[socket.socket], Any]) -> tuple[bool, bool]:
    """(the call held the caller up, the byte was fetched without a second call)."""
    ours, theirs = connection()
    ours.setblocking(blocking)

    def speak() -> None:
        theirs.sendall(b"x")
        theirs.shutdown(socket.SHUT_WR)

    later = threading.Timer(SILENCE, speak)
    later.start()
    clock = time.perf_counter()
    with contextlib.suppress(BlockingIOError):
        start(ours)
    held = time.perf_counter() - clock > SILENCE / 2
    later.join()
    fetched = vanishes(ours)
    ours.close()
    theirs.close()
    return held, fetched


def vanishes(ours: socket.socket) -> bool:
    """Whether the byte is fetched by somebody within PATIENCE: a look without taking then finds the stream's end."""
    ours.setblocking(False)
    deadline = time.perf_counter() + PATIENCE
    while time.perf_counter() < deadline:
        with contextlib.suppress(BlockingIOError):
            if not ours.recv(1, socket.MSG_PEEK):
                return True
        time.sleep(0.005)
    return False


def four_ways() -> set[tuple[bool, bool]]:
    """The different pairs of answers that were found."""
    loop = asyncio.new_event_loop()  # a helper that reads for us while we do something else
    helper = threading.Thread(target=loop.run_forever)
    helper.start()

    def begin(ours: socket.socket) -> Any:
        return asyncio.run_coroutine_threadsafe(loop.sock_recv(ours, 1), loop)

    answers = {
        ask(True, lambda ours: ours.recv(1)),            # synchronous, blocking
        ask(False, lambda ours: ours.recv(1)),           # synchronous, non-blocking
        ask(False, begin),                               # asynchronous: begun, and left alone
        ask(False, lambda ours: begin(ours).result(5)),  # asynchronous, yet we block until it is done
    }
    loop.call_soon_threadsafe(loop.stop)
    helper.join()
    loop.close()
    return answers


# --- which calls would wait ------------------------------------------------------------------------------------------


def would_wait(call: Callable[[], object], times: int = 1) -> bool:
    """Whether the call says, within so many times, that it cannot go on without waiting."""
    try:
        for _ in range(times):
            call()
    except BlockingIOError:
        return True
    return False


def waiting_calls() -> list[str]:
    """Names of the socket's calls that would wait for somebody else."""
    ours, theirs = connection()
    listener = socket.create_server(("127.0.0.1", 0))
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("127.0.0.1", 0))
    newcomer = socket.socket()
    for each in (ours, listener, datagrams, newcomer):
        each.setblocking(False)
    piece = bytes(64 * 1024)
    calls = {
        "accept": (listener.accept, 1),
        "recv": (lambda: ours.recv(1), 1),
        "recvfrom": (lambda: datagrams.recvfrom(1), 1),
        "send": (lambda: ours.send(piece), 10_000),  # the other end never reads: at last there is no room
        "connect": (lambda: newcomer.connect(listener.getsockname()), 1),
        "getsockname": (ours.getsockname, 1),
        "listen": (listener.listen, 1),
        "shutdown": (lambda: theirs.shutdown(socket.SHUT_RD), 1),
    }
    found = [name for name, (call, times) in calls.items() if would_wait(call, times)]
    for each in (ours, theirs, listener, datagrams, newcomer):
        each.close()
    return found


if __name__ == "__main__":
    print(json.dumps({"kinds": len(four_ways()), "calls_that_wait": len(waiting_calls())}))
