"""Like select, without its limit: poll() remembers what to watch in a list of any length.

Python keeps the list between calls, so the program only says what changes; but the whole list still
goes to the kernel on every call, and the kernel still looks at each socket in it: the price of a call
grows with the number *watched*. Descriptors of 1024 and more are welcome.

Windows' Python does not have it.
"""

from __future__ import annotations

import select
import socket

from servers.contract import BUFFER_BYTES, EXHAUSTED, RETRY_SECONDS, run, transform

REQUIRES = ("select.poll",)


def serve(listener: socket.socket) -> None:
    listener.setblocking(False)
    clients: dict[int, socket.socket] = {}  # by descriptor
    pending: dict[int, bytes] = {}  # what is left to send, where the kernel did not take it all
    door = listener.fileno()
    poller = select.poll()
    poller.register(door, select.POLLIN)
    full = False
    while True:
        ready = poller.poll(RETRY_SECONDS * 1000 if full else None)  # milliseconds, unlike select and epoll
        if full:  # there may be room again
            poller.register(door, select.POLLIN)
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
                    poller.register(connection.fileno(), select.POLLIN)
                continue
            before = pending.pop(descriptor, b"")
            left = talk(clients[descriptor], before)
            if left is None:
                poller.unregister(descriptor)
                clients.pop(descriptor).close()
            elif left:
                poller.modify(descriptor, select.POLLOUT)  # read on when this has gone
                pending[descriptor] = left
            elif before:
                poller.modify(descriptor, select.POLLIN)


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
