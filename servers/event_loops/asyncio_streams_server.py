"""A coroutine per connection: reads like the blocking server, runs like the epoll one.

At every `await` that has to wait, the coroutine gives the thread back to asyncio's event loop, which
watches all sockets with the system's poller (completion ports on Windows) and resumes whoever can go on.

The price is Python code for every step: tasks, futures, buffers. asyncio.start_server would accept
too, but out of descriptors it logs an error for every place in the accept queue, every second.
"""

from __future__ import annotations

import asyncio
import socket

from servers.contract import BUFFER_BYTES, PENDING_BYTES, RETRY_SECONDS, run, transform

REQUIRES = ("asyncio.open_connection",)


def serve(listener: socket.socket) -> None:
    asyncio.run(serve_forever(listener))


async def serve_forever(listener: socket.socket) -> None:
    listener.setblocking(False)
    loop = asyncio.get_running_loop()
    conversations: set[asyncio.Task[None]] = set()  # the loop itself keeps tasks by weak references only
    while True:
        try:
            connection, _ = await loop.sock_accept(listener)
        except OSError:  # no descriptor left for it
            await asyncio.sleep(RETRY_SECONDS)
            continue
        conversation = asyncio.create_task(talk(connection))
        conversations.add(conversation)
        conversation.add_done_callback(conversations.discard)


async def talk(connection: socket.socket) -> None:
    """Serves one client until it says goodbye or vanishes."""
    reader, writer = await asyncio.open_connection(sock=connection, limit=BUFFER_BYTES)
    writer.transport.set_write_buffer_limits(high=PENDING_BYTES)
    try:
        while data := await reader.read(BUFFER_BYTES):
            writer.write(transform(data))
            await writer.drain()  # waits while the client leaves too much output lying
    except OSError:  # a reset by the client ends its conversation, not the server
        pass
    writer.close()  # sends what is left first


if __name__ == "__main__":
    run(serve, REQUIRES)
