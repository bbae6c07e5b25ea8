"""epoll, edge-triggered: the kernel reports a change once, and the program must remember the rest.

An edge says "something arrived", not "something is there": whoever reads less than everything is not
told again. So each client is talked to until a call fails with BlockingIOError; only then can a new edge
come. Interest never changes, which saves system calls where output piles up and costs one more
receive per request where it does not.

A client that sends without pause would never let go: each gets a few turns, then the others. Linux only.
"""

from __future__ import annotations

import select
import socket

from servers.contract import BUFFER_BYTES, EXHAUSTED, RETRY_SECONDS, run, transform

REQUIRES = ("select.epoll",)

TURNS = 4
"""How many times a client is received from before it is the others' turn."""

EDGES = getattr(select, "EPOLLIN", 0) | getattr(select, "EPOLLOUT", 0) | getattr(select, "EPOLLET", 0)


def serve(listener: socket.socket) -> None:
    listener.setblocking(False)
    clients: dict[int, socket.socket] = {}  # by descriptor
    pending: dict[int, bytes] = {}  # what is left to send, where the kernel did not take it all
    door = listener.fileno()
    poller = select.epoll()
    poller.register(door, select.EPOLLIN | select.EPOLLET)
    unfinished: set[int] = set()  # descriptors whose edge has come and that are not yet drained
    full = False
    while True:
        ready = poller.poll(0 if unfinished else RETRY_SECONDS if full else None)
        unfinished.update(descriptor for descriptor, _ in ready)
        if full:  # there may be room again, and no edge will say so
            unfinished.add(door)
        for descriptor in list(unfinished):
            if descriptor == door:
                unfinished.remove(door)
                try:
                    while True:
                        connection, _ = listener.accept()
                        connection.setblocking(False)
                        clients[connection.fileno()] = connection
                        poller.register(connection.fileno(), EDGES)
                except OSError as error:  # nobody else there, or no descriptor left for them
                    full = error.errno in EXHAUSTED
                continue
            left, drained = talk(clients[descriptor], pending.pop(descriptor, b""))
            if left is None:
                unfinished.remove(descriptor)
                clients.pop(descriptor).close()  # the kernel forgets a closed descriptor by itself
                continue
            if left:
                pending[descriptor] = left
            if drained:
                unfinished.remove(descriptor)


def talk(connection: socket.socket, answer: bytes) -> tuple[bytes | None, bool]:
    """Moves one client on by some turns: sends `answer`, then receives and answers. Never waits.

    Returns what is left to send, None when the client has said goodbye or vanished; and whether a call
    would have waited, so that the next edge will tell.
    """
    try:
        for _ in range(TURNS):
            answer = answer or transform(connection.recv(BUFFER_BYTES))
            if not answer:
                return None, True
            answer = answer[connection.send(answer) :]
        return answer, False
    except BlockingIOError:  # nothing to receive yet, or no room to send
        return answer, True
    except OSError:  # a reset by the client ends its conversation, not the server
        return None, True


if __name__ == "__main__":
    run(serve, REQUIRES)
