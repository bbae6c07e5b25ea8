"""One thread watches many sockets: select() is given lists of sockets and returns those that are ready.

The lists are handed to the kernel anew on every call, and the kernel looks at each socket in them:
the price of a call grows with the number *watched*, not with the number ready.

Its limit: on Unix a descriptor of 1024 or more does not fit into select's bit set, on Windows
more than 512 sockets do not. select() then raises ValueError; this server hangs up on the newest
client, says so on stderr, and lives on.
"""

from __future__ import annotations

import select
import socket
import sys

from servers.contract import BUFFER_BYTES, EXHAUSTED, RETRY_SECONDS, run, transform

REQUIRES = ("select.select",)


def serve(listener: socket.socket) -> None:
    listener.setblocking(False)
    clients: dict[int, socket.socket] = {}  # by descriptor, the newest last
    pending: dict[int, bytes] = {}  # what is left to send, where the kernel did not take it all
    door = listener.fileno()
    readers = {door}  # every descriptor is among the readers or in `pending`, never in both
    full = False
    while True:
        try:
            readable, writable, _ = select.select(readers, pending, (), RETRY_SECONDS if full else None)
        except ValueError as error:
            newest, connection = clients.popitem()
            readers.discard(newest)
            pending.pop(newest, None)
            connection.close()
            print(f"hung up on the newest client: {error}", file=sys.stderr, flush=True)
            continue
        if full:  # there may be room again
            readers.add(door)
            full = False
        for descriptor in readable + writable:
            if descriptor == door:
                try:
                    connection, _ = listener.accept()
                except OSError as error:  # gone already, or no descriptor left for it
                    if full := error.errno in EXHAUSTED:
                        readers.remove(door)  # it stays readable: watching it would spin
                else:
                    connection.setblocking(False)
                    clients[connection.fileno()] = connection
                    readers.add(connection.fileno())
                continue
            left = talk(clients[descriptor], pending.pop(descriptor, b""))
            if left is None:
                readers.discard(descriptor)
                clients.pop(descriptor).close()
            elif left:
                readers.discard(descriptor)
                pending[descriptor] = left
            else:
                readers.add(descriptor)


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
