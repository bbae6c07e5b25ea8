"""Stand-ins for what only other systems have, faithful to the documented API, over real sockets.

    python -m tests.fakes --port 0 kqueue servers.multiplexing.kqueue_server

runs a server model with a stand-in installed. What the API forbids raises here as it does there, so a model that
passes has kept to the documentation; whether the real system agrees only a run on it can tell.
"""

from __future__ import annotations

import array
import asyncio
import errno
import os
import runpy
import select
import socket
import sys
from typing import Any

FILTER_READ, FILTER_WRITE = -1, -2
ADD, DELETE, ENABLE, DISABLE, ONESHOT, CLEAR = 0x1, 0x2, 0x4, 0x8, 0x10, 0x20
ERROR, EOF = 0x4000, 0x8000
FIONREAD = 0x541B  # asm-generic/ioctls.h


class Kevent:
    """select.kevent: arguments, order and defaults as the Python documentation has them."""

    def __init__(self, ident: Any, filter: int = FILTER_READ, flags: int = ADD, fflags: int = 0, data: int = 0,
                 udata: int = 0) -> None:
        self.ident = ident if isinstance(ident, int) else ident.fileno()
        self.filter, self.flags, self.fflags, self.data, self.udata = filter, flags, fflags, data, udata


class Kqueue:
    """select.kqueue over poll, level-triggered, for EVFILT_READ and EVFILT_WRITE of sockets (man 2 kqueue).

    An entry is a pair (ident, filter). Deleting what is not there is ENOENT, adding a closed descriptor EBADF.
    Closing a descriptor removes its entries; a new file under the old number has none.
    """

    def __init__(self) -> None:
        self.entries: dict[tuple[int, int], tuple[int, int]] = {}  # (ident, filter) → the file's (device, inode)
        self.calls: list[tuple[list[tuple[int, int, int]], int]] = []

    def control(self, changelist: Any, max_events: int, timeout: float | None = None, /) -> list[Kevent]:
        if max_events < 0:
            raise ValueError("max_events must be positive")
        if timeout is not None and timeout < 0:
            raise ValueError("timeout must be positive or None")
        changes = list(changelist or ())
        self.calls.append(([(change.ident, change.filter, change.flags) for change in changes], max_events))
        self.forget_closed()
        failures: list[Kevent] = []
        for change in changes:
            if error := self.apply(change):
                if len(failures) == max_events:
                    raise OSError(error, os.strerror(error))
                failures.append(Kevent(change.ident, change.filter, ERROR, 0, error))
        if failures or not max_events:
            return failures
        return self.wait(max_events, timeout)

    def apply(self, change: Kevent) -> int:
        if change.flags & ~(ADD | DELETE | ENABLE) or change.filter not in (FILTER_READ, FILTER_WRITE):
            raise NotImplementedError("beyond this stand-in")
        try:
            file = os.fstat(change.ident)
        except OSError:
            return errno.EBADF
        key = change.ident, change.filter
        if change.flags & DELETE:
            return 0 if self.entries.pop(key, None) else errno.ENOENT
        if not change.flags & ADD and key not in self.entries:
            return errno.ENOENT
        self.entries[key] = file.st_dev, file.st_ino
        return 0

    def forget_closed(self) -> None:
        for key, file in list(self.entries.items()):
            try:
                now = os.fstat(key[0])
            except OSError:
                del self.entries[key]
                continue
            if (now.st_dev, now.st_ino) != file:
                del self.entries[key]

    def wait(self, max_events: int, timeout: float | None) -> list[Kevent]:
        interest: dict[int, int] = {}
        for ident, which in self.entries:
            bits = select.POLLIN | select.POLLRDHUP if which == FILTER_READ else select.POLLOUT
            interest[ident] = interest.get(ident, 0) | bits
        poller = select.poll()
        for ident, bits in interest.items():
            poller.register(ident, bits)
        events = []
        for ident, bits in poller.poll(None if timeout is None else timeout * 1000):
            gone = bits & (select.POLLHUP | select.POLLERR)
            if (ident, FILTER_READ) in self.entries and bits & (select.POLLIN | select.POLLRDHUP) | gone:
                ended = EOF if bits & select.POLLRDHUP or gone else 0
                events.append(Kevent(ident, FILTER_READ, ADD | ended, 0, readable(ident)))
            if (ident, FILTER_WRITE) in self.entries and bits & select.POLLOUT | gone:
                events.append(Kevent(ident, FILTER_WRITE, ADD | (EOF if gone else 0)))
        return events[:max_events]


def readable(descriptor: int) -> int:
    """What `data` says of EVFILT_READ: bytes, or for a listening socket the queue (here: at least one)."""
    import fcntl

    count = array.array("i", [0])
    try:
        fcntl.ioctl(descriptor, FIONREAD, count)
    except OSError:  # a listening socket
        return 1
    return count[0]


class ProactorEventLoop(asyncio.SelectorEventLoop):
    """asyncio.ProactorEventLoop as its documentation limits it: sockets by sock_*() only, no readers, no signals.

    `operations` lists the completed operations that were asked for. Blocking sockets are refused, as documented.
    """

    operations: list[str] = []  # noqa: RUF012 - one list for all loops, so that a test finds it

    def refuse(self, *arguments: Any) -> Any:
        raise NotImplementedError("the proactor event loop has no readers, writers and signal handlers")

    add_reader = add_writer = add_signal_handler = refuse  # type: ignore[assignment]

    async def sock_accept(self, sock: socket.socket) -> Any:
        self.note("accept", sock)
        return await super().sock_accept(sock)

    async def sock_recv(self, sock: socket.socket, nbytes: int) -> bytes:
        self.note("recv", sock)
        return await super().sock_recv(sock, nbytes)

    async def sock_sendall(self, sock: socket.socket, data: Any) -> None:
        self.note("sendall", sock)
        await super().sock_sendall(sock, data)

    def note(self, operation: str, sock: socket.socket) -> None:
        if sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        self.operations.append(operation)


def install(name: str) -> None:
    """Puts the stand-in where the real thing would be: "kqueue" into select, "proactor" into asyncio."""
    if name == "proactor":
        asyncio.ProactorEventLoop = ProactorEventLoop  # type: ignore[attr-defined]
        return
    constants = {
        "KQ_FILTER_READ": FILTER_READ, "KQ_FILTER_WRITE": FILTER_WRITE, "KQ_EV_ADD": ADD, "KQ_EV_DELETE": DELETE,
        "KQ_EV_ENABLE": ENABLE, "KQ_EV_DISABLE": DISABLE, "KQ_EV_ONESHOT": ONESHOT, "KQ_EV_CLEAR": CLEAR,
        "KQ_EV_ERROR": ERROR, "KQ_EV_EOF": EOF,
    }
    for key, value in {"kqueue": Kqueue, "kevent": Kevent, **constants}.items():
        setattr(select, key, value)


if __name__ == "__main__":
    *rest, stand_in, module = sys.argv[1:]
    install(stand_in)
    sys.argv[1:] = rest
    runpy.run_module(module, run_name="__main__", alter_sys=True)
