"""Receiving into the program's own buffer: asyncio asks the protocol where the bytes shall go.

An asyncio.Protocol gets a new bytes object of up to 256 KiB for every receive, and glibc fetches a block
of that size from the kernel and gives it back each time. An asyncio.BufferedProtocol lends the loop a
buffer instead, so nothing large is allocated, and the program decides how much one receive asks for.

One buffer serves all clients: asyncio's own loops ask for it, fill it and tell so in one go, and it is
emptied before they turn to the next client.
"""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from servers.contract import BUFFER_BYTES, PENDING_BYTES, RETRY_SECONDS, run, transform

REQUIRES = ("asyncio.BufferedProtocol",)


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


class Talk(asyncio.BufferedProtocol):
    """Serves one client until it says goodbye or vanishes."""

    buffer = memoryview(bytearray(BUFFER_BYTES))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=PENDING_BYTES)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(transform(bytes(self.buffer[:nbytes])))

    def pause_writing(self) -> None:  # the client leaves too much output lying
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()

    # A goodbye needs no method: by default the transport sends what is left and closes.


if __name__ == "__main__":
    run(serve, REQUIRES)
