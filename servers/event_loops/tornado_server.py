"""tornado's TCPServer: coroutines on buffered streams, on asyncio's event loop.

Once a loop of its own, tornado has been a library on top of asyncio since version 5: the poller, and so
the I/O model, is asyncio's. What it adds here is the IOStream, with buffers for both directions.

Out of descriptors, tornado's accept loop raises, logs, and finds the listener still readable: it would
spin. So the listener it is given takes itself out of the loop for a while.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

from servers.contract import BUFFER_BYTES, EXHAUSTED, PENDING_BYTES, RETRY_SECONDS, run, transform

if TYPE_CHECKING:
    from tornado.iostream import IOStream

REQUIRES = ("tornado",)


def serve(listener: socket.socket) -> None:
    asyncio.run(serve_forever(listener))


async def serve_forever(listener: socket.socket) -> None:
    from tornado.tcpserver import TCPServer

    class Server(TCPServer):
        async def handle_stream(self, stream: IOStream, address: tuple[Any, ...]) -> None:
            await talk(stream)

    listener.setblocking(False)
    server = Server(max_buffer_size=PENDING_BYTES, read_chunk_size=BUFFER_BYTES)
    server.add_sockets([PatientListener(fileno=listener.detach())])
    await asyncio.Event().wait()  # for ever


async def talk(stream: IOStream) -> None:
    """Serves one client until it says goodbye or vanishes."""
    from tornado.iostream import StreamClosedError

    try:
        while True:
            data = await stream.read_bytes(BUFFER_BYTES, partial=True)
            await stream.write(transform(data))  # waits until the kernel has taken it all
    except StreamClosedError:
        pass


class PatientListener(socket.socket):
    """A listening socket that asks tornado's loop for a pause when there is no descriptor for a client."""

    def accept(self) -> tuple[socket.socket, Any]:
        from tornado.ioloop import IOLoop

        try:
            return super().accept()
        except OSError as error:
            if error.errno not in EXHAUSTED:
                raise
            loop = IOLoop.current()
            loop.update_handler(self.fileno(), 0)
            loop.call_later(RETRY_SECONDS, loop.update_handler, self.fileno(), loop.READ)
            raise BlockingIOError from error  # to tornado: nobody there


if __name__ == "__main__":
    run(serve, REQUIRES)
