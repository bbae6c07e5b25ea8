"""No call ever waits: the program asks every socket in turn, over and over.

A non-blocking call that has nothing to do fails at once with BlockingIOError, so one thread can look
after many clients. But nobody tells it *when* to ask: it burns a whole CPU while nothing happens, and
a round gets longer with every client.

A client with output left over is not read from until that has gone, so memory stays bounded.
"""

from __future__ import annotations

import socket

from servers.contract import BUFFER_BYTES, run, transform

REQUIRES = ()


def serve(listener: socket.socket) -> None:
    listener.setblocking(False)
    clients: dict[int, socket.socket] = {}  # by descriptor
    pending: dict[int, bytes] = {}  # what is left to send, where the kernel did not take it all
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # nobody there, or no descriptor left for it: ask again in the next round
            pass
        else:
            connection.setblocking(False)
            clients[connection.fileno()] = connection
        for descriptor, connection in list(clients.items()):
            left = talk(connection, pending.pop(descriptor, b""))
            if left is None:
                clients.pop(descriptor).close()
            elif left:
                pending[descriptor] = left


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
