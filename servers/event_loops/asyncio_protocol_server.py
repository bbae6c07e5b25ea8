"""Callbacks instead of coroutines: asyncio's event loop calls a method when something has happened.

The layer below streams: no task, no future, no buffer between the loop and the program. That is the
cheaper, and the price is that a conversation's course is spread over methods.

asyncio receives up to 256 KiB at once, whatever the program would like. loop.create_server would accept
too, but out of descriptors it logs an error for every place in the accept queue, every second.
"""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from servers.contract import PENDING_BYTES, RETRY_SECONDS, run, transform

REQUIRES = ("asyncio.Protocol",)


def serve(listener: socket.socket) -> None:
    asyncio.run(serve_forever(listener))


async def serve_forever(listener: socket.socket) -> None:
    listener.setblocking(False)
    loop = asyncio.get_running_loop()
    while True:
        try:
            connection, _ = await loop.sock_accept(listener)
        except OSError:  # no descriptor left for it
            await asyncio.sleep(RETRY_SECONDS)
            continue
        await loop.connect_accepted_socket(Talk, connection)


class Talk(asyncio.Protocol):
    """Serves one client until it says goodbye or vanishes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=PENDING_BYTES)

    def data_received(self, data: bytes) -> None:
        self.transport.write(transform(data))

    def pause_writing(self) -> None:  # the client leaves too much output lying
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()

    # A goodbye needs no method: by default the transport sends what is left and closes.


if __name__ == "__main__":
    run(serve, REQUIRES)
