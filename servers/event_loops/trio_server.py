"""Structured concurrency: a task per connection, and every task belongs to a nursery that waits for it.

Coroutines as in asyncio, but on a loop of trio's own and by stricter rules: no task outlives the nursery
that started it, no error in it gets lost, and `send_all` waits until the kernel has taken everything, so
that there is no hidden output buffer to fill up.

The price is Python code for every step, and a pass through the scheduler even where nothing has to wait.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from servers.contract import BUFFER_BYTES, RETRY_SECONDS, run, transform

if TYPE_CHECKING:
    import trio

REQUIRES = ("trio", "select.epoll or select.kqueue or asyncio.ProactorEventLoop")


def serve(listener: socket.socket) -> None:
    import trio

    listener.setblocking(False)
    trio.run(serve_forever, trio.socket.from_stdlib_socket(listener))


async def serve_forever(listener: trio.socket.SocketType) -> None:
    import trio

    async with trio.open_nursery() as nursery:
        while True:
            try:
                connection, _ = await listener.accept()
            except OSError:  # no descriptor left for it
                await trio.sleep(RETRY_SECONDS)
                continue
            nursery.start_soon(talk, trio.SocketStream(connection))


async def talk(stream: trio.SocketStream) -> None:
    """Serves one client until it says goodbye or vanishes."""
    import trio

    async with stream:
        try:
            while data := await stream.receive_some(BUFFER_BYTES):
                await stream.send_all(transform(data))
        except trio.BrokenResourceError:  # a reset by the client ends its conversation, not the server
            pass


if __name__ == "__main__":
    run(serve, REQUIRES)
