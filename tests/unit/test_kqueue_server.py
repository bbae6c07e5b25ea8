"""The kqueue model against a stand-in for kqueue: its calls one by one, then the whole conformance suite."""

from __future__ import annotations

import contextlib
import select
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))

import conformance as c
import test_servers as suite

from tests import fakes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the stand-in needs Linux's poll")

SHARED = [suite.test_bytes_cut_anywhere, suite.test_eight_megabytes_through_a_slow_reader,
          suite.test_half_close_is_answered_to_the_end, suite.test_resets_end_only_their_own_conversation,
          suite.test_a_client_that_never_reads_stalls_only_itself,
          suite.test_waits_when_descriptors_run_out_and_goes_on, suite.test_two_hundred_clients_come_and_go,
          suite.test_idle_costs_nothing_but_for_the_busy_poll]


class Faked(c.Model):
    """A model whose process is `python -m tests.fakes`."""

    @property
    def module(self) -> str:
        return "tests.fakes"


def start_faked(stand_in: str, folder: str) -> Any:
    """Starts the model of that name in servers/<folder>/ with its stand-in."""
    real = c.read_model(c.SERVERS / folder / f"{stand_in}_server.py")
    model = Faked(real.path, real.docstring, real.requires, real.protocol)

    def start(_: c.Model, *arguments: str, **limits: int) -> c.Server:
        return c.start_natively(model, (*arguments, stand_in, real.module), c.Limits(**limits))

    return model, start


@pytest.mark.parametrize("check", SHARED, ids=lambda check: check.__name__)
def test_conformance(check: Any) -> None:
    started: list[c.Server] = []
    model, start = start_faked("kqueue", "multiplexing")

    def server(*arguments: Any, **limits: int) -> c.Server:
        started.append(start(*arguments, **limits))
        return started[-1]

    try:
        check(server, model)
        assert started[0].alive() and "Traceback" not in started[0].stderr()
    finally:
        for one in started:
            one.stop()


class Stopped(Exception):
    pass


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[fakes.Kqueue, tuple[str, int], int]]:
    """The model in a thread of this process: its kqueue, its address, its listening descriptor."""
    stop = threading.Event()

    class Stoppable(fakes.Kqueue):
        def wait(self, max_events: int, timeout: float | None) -> list[fakes.Kevent]:
            while not stop.is_set():
                if (events := super().wait(max_events, 0.02 if timeout is None else timeout)) or timeout is not None:
                    return events
            raise Stopped

    queue = Stoppable()
    import servers.multiplexing.kqueue_server as model

    for name in ("KQ_FILTER_READ", "KQ_FILTER_WRITE", "KQ_EV_ADD", "KQ_EV_DELETE"):
        monkeypatch.setattr(select, name, getattr(fakes, name.removeprefix("KQ_").removeprefix("EV_")), raising=False)
    monkeypatch.setattr(select, "kqueue", lambda: queue, raising=False)
    monkeypatch.setattr(select, "kevent", fakes.Kevent, raising=False)

    def work(listener: socket.socket) -> None:
        with contextlib.suppress(Stopped):
            model.serve(listener)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=work, args=(listener,))
        thread.start()
        yield queue, listener.getsockname(), listener.fileno()
        stop.set()
        thread.join(c.DEADLINE)
    assert not thread.is_alive()


def changes(queue: fakes.Kqueue) -> list[tuple[int, int, int]]:
    return [change for changelist, _ in queue.calls for change in changelist]


def test_a_request_changes_nothing_and_costs_one_wait(serving: Any) -> None:
    queue, address, door = serving
    with socket.create_connection(address) as client:
        client.settimeout(c.DEADLINE)
        c.ask(client)
        c.eventually(lambda: queue.calls[-1] == ([], 1024), "it waits")
        made = changes(queue)
        assert made[0] == (door, fakes.FILTER_READ, fakes.ADD)
        assert [change[1:] for change in made[1:]] == [(fakes.FILTER_READ, fakes.ADD)]
        before = len(queue.calls)
        for _ in range(10):
            c.ask(client)
        c.eventually(lambda: len(queue.calls) == before + 10, "one call a request")
        assert changes(queue) == made


def test_a_stalled_client_swaps_its_filter_and_back(serving: Any) -> None:
    queue, address, _ = serving
    data = b"x" * 8_000_000
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        client.connect(address)
        sent = c.flood(client, data)
        assert sent < len(data)
        assert [change[1:] for change in changes(queue)[-2:]] == [
            (fakes.FILTER_READ, fakes.DELETE), (fakes.FILTER_WRITE, fakes.ADD)]
        assert c.pump(client, data[sent:], half_close=True) == data.upper()
    c.eventually(lambda: len(queue.entries) == 1 or not queue.forget_closed(), "the client is forgotten")
    waits_for_write = [change for change in changes(queue) if change[1] == fakes.FILTER_WRITE]
    assert len(waits_for_write) % 2 == 0
    assert {flags for _, _, flags in waits_for_write[::2]} == {fakes.ADD}
    assert {flags for _, _, flags in waits_for_write[1::2]} == {fakes.DELETE}


def test_the_stand_in_is_as_strict_as_the_documentation() -> None:
    queue = fakes.Kqueue()
    left, right = socket.socketpair()
    with pytest.raises(FileNotFoundError):
        queue.control([fakes.Kevent(left, fakes.FILTER_WRITE, fakes.DELETE)], 0)
    queue.control([fakes.Kevent(left)], 0)
    assert queue.control(None, 8, 0) == []
    right.sendall(b"abc")
    (event,) = queue.control(None, 8, 0)
    assert (event.ident, event.filter, event.data, event.flags & fakes.EOF) == (left.fileno(), fakes.FILTER_READ, 3, 0)
    right.close()
    (event,) = queue.control(None, 8, 0)
    assert event.flags & fakes.EOF and event.data == 3
    number = left.fileno()
    left.close()
    assert queue.control(None, 8, 0) == [] and not queue.entries
    with pytest.raises(OSError, match="Bad file descriptor"):
        queue.control([fakes.Kevent(number)], 0)
