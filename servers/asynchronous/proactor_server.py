"""Asynchronous I/O on Windows: operations are started, a completion port (IOCP) reports those that are done.

The counterpart of io_uring, twenty years older, reached through asyncio's ProactorEventLoop: a coroutine that
awaits `sock_recv` has handed its buffer to the kernel and is resumed when the bytes are in it. No
socket is ever asked whether it is ready.

A client that never reads keeps one send under way and is not received from meanwhile. Windows only; asyncio on
other systems is a selector loop behind the same interface, so it belongs to the multiplexing models.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from servers.contract import BUFFER_BYTES, RETRY_SECONDS, run, transform

REQUIRES = ("asyncio.ProactorEventLoop",)

windows: Any = asyncio  # only there has asyncio the loop named below


def serve(listener: socket.socket) -> None:
    listener.setblocking(False)
    with asyncio.Runner(loop_factory=windows.ProactorEventLoop) as runner:
        runner.run(accept(listener))


async def accept(listener: socket.socket) -> None:
    """Starts a conversation with every client that comes."""
    loop = asyncio.get_running_loop()
    conversations: set[asyncio.Task[None]] = set()  # the loop itself holds its tasks only weakly
    while True:
        try:
            connection, _ = await loop.sock_accept(listener)
        except OSError:  # no descriptor left for it, or it has vanished already (WinError 64)
            await asyncio.sleep(RETRY_SECONDS)
            continue
        conversation = loop.create_task(talk(connection))
        conversations.add(conversation)
        conversation.add_done_callback(conversations.discard)


async def talk(connection: socket.socket) -> None:
    """Serves one client until it says goodbye or vanishes."""
    loop = asyncio.get_running_loop()
    try:
        with connection:
            while data := await loop.sock_recv(connection, BUFFER_BYTES):
                await loop.sock_sendall(connection, transform(data))
    except OSError:  # a reset by the client ends its conversation, not the server
        pass


if __name__ == "__main__":
    run(serve, REQUIRES)
