"""The proactor model against a stand-in for asyncio.ProactorEventLoop: its operations, then the conformance suite."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

import pytest
from test_kqueue_server import SHARED, start_faked

from tests import fakes

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the conformance suite runs the real loop")


@pytest.mark.parametrize("check", SHARED, ids=lambda check: check.__name__)
def test_conformance(check: Any) -> None:
    started: list[Any] = []
    model, start = start_faked("proactor", "asynchronous")

    def server(*arguments: Any, **limits: int) -> Any:
        started.append(start(*arguments, **limits))
        return started[-1]

    try:
        check(server, model)
        assert started[0].alive() and "Traceback" not in started[0].stderr()
    finally:
        for one in started:
            one.stop()


def test_each_operation_is_started_when_the_one_before_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    import servers.asynchronous.proactor_server as model

    operations: list[str] = []
    monkeypatch.setattr(fakes.ProactorEventLoop, "operations", operations)

    async def conversation() -> bytes:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
            listener.setblocking(False)
            serving = loop.create_task(model.accept(listener))
            client.setblocking(False)
            await loop.sock_connect(client, listener.getsockname())
            await asyncio.SelectorEventLoop.sock_sendall(loop, client, b"hello")  # type: ignore[arg-type]
            answer = await asyncio.SelectorEventLoop.sock_recv(loop, client, 100)  # type: ignore[arg-type]
            client.close()
            await asyncio.wait([task for task in asyncio.all_tasks() if task.get_coro().__name__ == "talk"])  # type: ignore[union-attr]
            serving.cancel()
            return answer

    with asyncio.Runner(loop_factory=fakes.ProactorEventLoop) as runner:
        assert runner.run(asyncio.wait_for(conversation(), 20)) == b"HELLO"
    assert [operation for operation in operations if operation != "accept"] == ["recv", "sendall", "recv"]
    assert operations.count("accept") == 2
