"""The best poller this system has, behind one interface: `selectors` chooses, the program stays the same.

DefaultSelector is epoll on Linux, kqueue on macOS and BSD, select on Windows. It costs a little Python
on every call and saves knowing four sets of names and units.

It inherits the limits of what it chose: where that is select, a client too many makes it raise
ValueError; this server then hangs up on the newest client, says so on stderr, and lives on.
"""

from __future__ import annotations

import selectors
import socket
import sys
from selectors import EVENT_READ, EVENT_WRITE

from servers.contract import BUFFER_BYTES, EXHAUSTED, RETRY_SECONDS, run, transform

REQUIRES = ("selectors.DefaultSelector",)


def serve(listener: socket.socket) -> None:
    listener.setblocking(False)
    clients: dict[int, socket.socket] = {}  # by descriptor, the newest last
    pending: dict[int, bytes] = {}  # what is left to send, where the kernel did not take it all
    door = listener.fileno()
    poller = selectors.DefaultSelector()
    poller.register(door, EVENT_READ)
    full = False
    while True:
        try:
            ready = poller.select(RETRY_SECONDS if full else None)
        except ValueError as error:
            newest, connection = clients.popitem()
            poller.unregister(newest)
            pending.pop(newest, None)
            connection.close()
            print(f"hung up on the newest client: {error}", file=sys.stderr, flush=True)
            continue
        if full:  # there may be room again
            poller.register(door, EVENT_READ)
            full = False
        for descriptor in [key.fd for key, _ in ready]:
            if descriptor == door:
                try:
                    connection, _ = listener.accept()
                except OSError as error:  # gone already, or no descriptor left for it
                    if full := error.errno in EXHAUSTED:
                        poller.unregister(door)  # it stays readable: watching it would spin
                else:
                    connection.setblocking(False)
                    clients[connection.fileno()] = connection
                    poller.register(connection.fileno(), EVENT_READ)
                continue
            before = pending.pop(descriptor, b"")
            left = talk(clients[descriptor], before)
            if left is None:
                poller.unregister(descriptor)
                clients.pop(descriptor).close()
            elif left:
                poller.modify(descriptor, EVENT_WRITE)  # read on when this has gone
                pending[descriptor] = left
            elif before:
                poller.modify(descriptor, EVENT_READ)


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
