"""A greenlet per connection: the code of the thread server, with waiting calls that switch instead.

gevent's sockets look like the standard ones, but an `accept`, `recv` or `sendall` that would have to wait
saves the greenlet's C stack, switches to the event loop (libev on the system's poller, libuv on Windows), and
is switched back to when the socket is ready. No `async` and no `await` shows where that happens: every
call into gevent may switch, and nothing else does.

The price is the copied stack, some kilobytes for every connection, idle or not.
"""

from __future__ import annotations

import socket

from servers.contract import BUFFER_BYTES, RETRY_SECONDS, run, transform

REQUIRES = ("gevent",)


def serve(listener: socket.socket) -> None:
    import gevent.socket

    listener = gevent.socket.socket(fileno=listener.detach())
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # no descriptor left for it
            gevent.sleep(RETRY_SECONDS)
            continue
        gevent.spawn(talk, connection)


def talk(connection: socket.socket) -> None:
    """Serves one client until it says goodbye or vanishes."""
    with connection:
        try:
            while data := connection.recv(BUFFER_BYTES):
                connection.sendall(transform(data))
        except OSError:  # a reset by the client ends its conversation, not the server
            pass


if __name__ == "__main__":
    run(serve, REQUIRES)
