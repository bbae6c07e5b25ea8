"""HTTP by hand: asyncio streams carry the bytes, h11 knows the protocol, nothing in between.

`POST /` with a body is answered with the body in capitals. h11 does no I/O at all: bytes go in and
events come out (a request, a piece of its body, its end), events go in and bytes come out.
So this is the yardstick for the frameworks: what HTTP costs over a bare event loop, before any routing.

A body is read to its end before the answer begins; one of more than 16 MiB is refused with status 413.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from servers.contract import BUFFER_BYTES, PENDING_BYTES, RETRY_SECONDS, run, transform

if TYPE_CHECKING:
    import h11

REQUIRES = ("h11",)
PROTOCOL = "http"
BODY_BYTES = 16 * 1024 * 1024


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
    import h11

    reader, writer = await asyncio.open_connection(sock=connection, limit=BUFFER_BYTES)
    writer.transport.set_write_buffer_limits(high=PENDING_BYTES)
    http = h11.Connection(h11.SERVER)

    async def next_event() -> object:
        """The next thing the client says, waited for if it has not been received yet."""
        while (event := http.next_event()) is h11.NEED_DATA:
            if http.they_are_waiting_for_100_continue:
                writer.write(http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
            http.receive_data(await reader.read(BUFFER_BYTES))
        return event

    try:
        while isinstance(request := await next_event(), h11.Request):
            body = bytearray()
            while isinstance(event := await next_event(), h11.Data):
                body += event.data
                if len(body) > BODY_BYTES:
                    raise h11.RemoteProtocolError("body too long", error_status_hint=413)
            status = 404 if request.target != b"/" else 405 if request.method != b"POST" else 200
            writer.write(answer(http, status, transform(bytes(body)) if status == 200 else b""))
            await writer.drain()  # waits while the client leaves too much output lying
            if http.our_state is h11.MUST_CLOSE:
                break
            http.start_next_cycle()
    except h11.RemoteProtocolError as error:  # what came is no HTTP, or ended too soon
        if http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            writer.write(answer(http, error.error_status_hint, b""))
    except OSError:  # a reset by the client ends its conversation, not the server
        pass
    writer.close()  # sends what is left first


def answer(http: h11.Connection, status: int, body: bytes) -> bytes:
    """A whole response as bytes to send."""
    import h11

    headers = [("Content-Length", str(len(body)))] + [("Allow", "POST")] * (status == 405)
    events = (h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage())
    return b"".join(http.send(event) or b"" for event in events)


if __name__ == "__main__":
    run(serve, REQUIRES)
