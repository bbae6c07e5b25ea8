"""The same program on another loop: asyncio's protocol server, driven by libuv instead of Python.

asyncio prescribes what an event loop can do, not how. uvloop does it in C, on libuv, the library under
Node.js; on Windows winloop is its twin. Not a line of the protocol changes: whatever differs from
asyncio_protocol_server comes from the loop.
"""

from __future__ import annotations

import socket
import sys

from servers.contract import run
from servers.event_loops.asyncio_protocol_server import serve_forever

REQUIRES = ("uvloop or winloop", "select.epoll or select.kqueue or asyncio.ProactorEventLoop")


def serve(listener: socket.socket) -> None:
    if sys.platform == "win32":
        import winloop as loop
    else:
        import uvloop as loop
    loop.run(serve_forever(listener))


if __name__ == "__main__":
    run(serve, ("winloop",) if sys.platform == "win32" else REQUIRES)
