"""The kernel keeps the list, as with epoll: kqueue is the poller of macOS and BSD.

What is watched is a pair of a descriptor and a *filter*: reading and writing are two entries, added and deleted one
by one, where epoll has one entry with two bits. An event brings more than its epoll twin: `data` says how many bytes
or connections are there.

One call, `control`, both changes the list and waits, so changes could travel for nothing with the next wait;
here they are made at once, as in the epoll model. Level-triggered; EV_CLEAR would make it edge-triggered.
"""

from __future__ import annotations

import select
import socket
from typing import Any

from servers.contract import BUFFER_BYTES, EXHAUSTED, RETRY_SECONDS, run, transform

REQUIRES = ("select.kqueue",)

EVENTS = 1024
"""How many events one call returns at most; the others come with the next."""

kernel: Any = select  # only macOS and BSD have the names used below


def serve(listener: socket.socket) -> None:
    listener.setblocking(False)
    clients: dict[int, socket.socket] = {}  # by descriptor
    pending: dict[int, bytes] = {}  # what is left to send, where the kernel did not take it all
    door = listener.fileno()
    poller = kernel.kqueue()
    read, write, add, delete = kernel.KQ_FILTER_READ, kernel.KQ_FILTER_WRITE, kernel.KQ_EV_ADD, kernel.KQ_EV_DELETE
    change(poller, door, (read, add))
    full = False
    while True:
        ready = poller.control(None, EVENTS, RETRY_SECONDS if full else None)
        if full:  # there may be room again
            change(poller, door, (read, add))
            full = False
        for descriptor in [event.ident for event in ready]:
            if descriptor == door:
                try:
                    connection, _ = listener.accept()
                except OSError as error:  # gone already, or no descriptor left for it
                    if full := error.errno in EXHAUSTED:
                        change(poller, door, (read, delete))  # it stays readable: watching it would spin
                else:
                    connection.setblocking(False)
                    clients[connection.fileno()] = connection
                    change(poller, connection.fileno(), (read, add))
                continue
            before = pending.pop(descriptor, b"")
            left = talk(clients[descriptor], before)
            if left is None:
                clients.pop(descriptor).close()  # the kernel forgets a closed descriptor by itself
            elif left:
                pending[descriptor] = left
                if not before:
                    change(poller, descriptor, (read, delete), (write, add))  # read on when this has gone
            elif before:
                change(poller, descriptor, (write, delete), (read, add))


def change(poller: Any, descriptor: int, *changes: tuple[int, int]) -> None:
    """Adds and deletes filters of one descriptor: pairs of the filter and what to do. Does not wait."""
    poller.control([kernel.kevent(descriptor, which, action) for which, action in changes], 0)


def talk(connection: socket.socket, answer: bytes) -> bytes | None:
    """Moves one client on by a step: sends `answer`, or if that is empty receives and answers.

    Returns what is left to send, None when the client has said goodbye or vanished. Never waits.
    """
    try:
        answer = answer or transform(connection.recv(BUFFER_BYTES))
        return answer[connection.send(answer) :] if answer else None
    except BlockingIOError:  # nothing to receive yet, or no room to send
        return answer
    except OSError:  # a reset by the client ends its conversation, not the server
        return None


if __name__ == "__main__":
    run(serve, REQUIRES)
