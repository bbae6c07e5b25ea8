"""The poller of the operating system, bare: one small adapter per family, all with one shape.

`wait(seconds, most)` returns [(descriptor, event), …]. An event is READ, WRITE, both, or a number
with other bits when something is wrong with the socket, which the next receive will name.
"""

from __future__ import annotations

import select
import sys
from collections.abc import Callable
from typing import Any

READ, WRITE = 1, 4  # POLLIN and POLLOUT, EPOLLIN and EPOLLOUT: the same numbers on every system that has them
MOST = 64  # events per wait: orders are looked at between waits, and must not wait for long


class EpollPoller:
    """Linux."""

    name = "epoll"

    def __init__(self) -> None:
        self._epoll = select.epoll()  # type: ignore[attr-defined,unused-ignore]
        self._own = [self._epoll.fileno()]
        self.add = self._epoll.register
        self.change = self._epoll.modify
        self.remove = self._epoll.unregister
        self.wait: Callable[[float, int], list[tuple[int, int]]] = self._epoll.poll

    def wait_precisely(self, seconds: float, most: int) -> list[tuple[int, int]]:
        """As wait, but to some 0.1 ms: epoll_wait counts whole milliseconds, and select can watch an epoll."""
        if 0 < seconds < 0.02 and self._own[0] < 1024:
            if not select.select(self._own, (), (), seconds)[0]:
                return []
            seconds = 0
        return self.wait(seconds, most)

    def close(self) -> None:
        self._epoll.close()


class PollPoller:
    """Unix without anything better."""

    name = "poll"

    def __init__(self) -> None:
        self._poll = select.poll()  # type: ignore[attr-defined,unused-ignore]
        self.add = self._poll.register
        self.change = self._poll.modify
        self.remove = self._poll.unregister

    def wait(self, seconds: float, most: int) -> list[tuple[int, int]]:
        return self._poll.poll(seconds * 1000)

    wait_precisely = wait

    def close(self) -> None:
        pass


class SelectPoller:
    """Windows: 512 sockets at most. A failed connect shows in the third list, as a write."""

    name = "select"

    def __init__(self) -> None:
        self._readers: set[int] = set()
        self._writers: set[int] = set()

    def add(self, descriptor: int, events: int) -> None:
        self.change(descriptor, events)

    def change(self, descriptor: int, events: int) -> None:
        (self._readers.add if events & READ else self._readers.discard)(descriptor)
        (self._writers.add if events & WRITE else self._writers.discard)(descriptor)

    def remove(self, descriptor: int) -> None:
        self._readers.discard(descriptor)
        self._writers.discard(descriptor)

    def wait(self, seconds: float, most: int) -> list[tuple[int, int]]:
        failing = self._writers if sys.platform == "win32" else ()
        readable, writable, failed = select.select(self._readers, self._writers, failing, seconds)
        if not writable and not failed:
            return [(descriptor, READ) for descriptor in readable]
        events = dict.fromkeys(readable, READ)
        for descriptor in {*writable, *failed}:
            events[descriptor] = events.get(descriptor, 0) | WRITE
        return list(events.items())

    wait_precisely = wait

    def close(self) -> None:
        pass


class KqueuePoller:
    """macOS and BSD. Each direction is an event of its own."""

    name = "kqueue"

    def __init__(self) -> None:
        self._kqueue: Any = select.kqueue()  # type: ignore[attr-defined,unused-ignore]
        self._watched: dict[int, int] = {}

    def add(self, descriptor: int, events: int) -> None:
        self._watched[descriptor] = 0
        self.change(descriptor, events)

    def change(self, descriptor: int, events: int) -> None:
        s: Any = select
        before, changes = self._watched[descriptor], []
        for event, family in ((READ, s.KQ_FILTER_READ), (WRITE, s.KQ_FILTER_WRITE)):
            if (before ^ events) & event:
                changes.append(s.kevent(descriptor, family, s.KQ_EV_ADD if events & event else s.KQ_EV_DELETE))
        if changes:
            self._kqueue.control(changes, 0)
        self._watched[descriptor] = events

    def remove(self, descriptor: int) -> None:
        self.change(descriptor, 0)
        del self._watched[descriptor]

    def wait(self, seconds: float, most: int) -> list[tuple[int, int]]:
        write = select.KQ_FILTER_WRITE  # type: ignore[attr-defined,unused-ignore]
        return [(event.ident, WRITE if event.filter == write else READ)
                for event in self._kqueue.control(None, most, seconds)]

    wait_precisely = wait

    def close(self) -> None:
        self._kqueue.close()


Poller = EpollPoller | PollPoller | SelectPoller | KqueuePoller
FAMILIES: dict[str, type[Any]] = {"epoll": EpollPoller, "kqueue": KqueuePoller, "poll": PollPoller,
                                  "select": SelectPoller}


def available() -> list[str]:
    """The pollers of this system, best first. A kernel may refuse one that Python knows, so each is tried."""
    names = []
    for name, family in FAMILIES.items():
        try:
            family().close()
        except (AttributeError, OSError):
            continue
        names.append(name)
    return names
