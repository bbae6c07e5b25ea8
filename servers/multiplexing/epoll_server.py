"""The kernel keeps the list: epoll is told once what to watch and returns only what is ready.

When data arrives, the kernel itself puts the socket on a ready list; a call just takes from it. So the
price of a call grows with the number *ready*, and ten thousand idle clients cost nothing. Each change
of interest is a system call of its own, though, which poll and select do not need.

Level-triggered, as here, it reports a socket again and again while there is something to do. Linux only.
"""

from __future__ import annotations

import select
import socket

from servers.contract import BUFFER_BYTES, EXHAUSTED, RETRY_SECONDS, run, transform

REQUIRES = ("select.epoll",)


def serve(listener: socket.socket) -> None:
    listener.setblocking(False)
    clients: dict[int, socket.socket] = {}  # by descriptor
    pending: dict[int, bytes] = {}  # what is left to send, where the kernel did not take it all
    door = listener.fileno()
    poller = select.epoll()
    poller.register(door, select.EPOLLIN)
    full = False
    while True:
        ready = poller.poll(RETRY_SECONDS if full else None)
        if full:  # there may be room again
            poller.register(door, select.EPOLLIN)
            full = False
        for descriptor, _ in ready:
            if descriptor == door:
                try:
                    connection, _ = listener.accept()
                except OSError as error:  # gone already, or no descriptor left for it
                    if full := error.errno in EXHAUSTED:
                        poller.unregister(door)  # it stays readable: watching it would spin
                else:
                    connection.setblocking(False)
                    clients[connection.fileno()] = connection
                    poller.register(connection.fileno(), select.EPOLLIN)
                continue
            before = pending.pop(descriptor, b"")
            left = talk(clients[descriptor], before)
            if left is None:
                clients.pop(descriptor).close()  # the kernel forgets a closed descriptor by itself
            elif left:
                poller.modify(descriptor, select.EPOLLOUT)  # read on when this has gone
                pending[descriptor] = left
            elif before:
                poller.modify(descriptor, select.EPOLLIN)


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
