"""Real servers, counted and traced natively. Skipped where the system or its settings allow no tracing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from labs.harness import timeline, tracing
from labs.harness.catalog import ROOT, server_models
from labs.harness.deploy.base import Spec
from labs.harness.deploy.native_backend import NativeBackend
from labs.harness.errors import InputError, MachineError
from labs.harness.measure import perf, strace
from labs.harness.model import Cell, Load, Timing, Trial
from labs.harness.pool import start_server
from labs.harness.workbench import Workbench, open_workbench

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="strace and perf are for Linux")
MODELS = server_models(ROOT) if sys.platform == "linux" else {}
EXACT = {"blocking": {"recvfrom", "sendto"}, "select": {"pselect6", "recvfrom", "sendto"},
         "poll": {"poll", "recvfrom", "sendto"}, "epoll": {"epoll_wait", "recvfrom", "sendto"}}
PLAIN = ("-m", "servers.blocking.blocking_server")


@pytest.fixture(scope="module")
def bench() -> Iterator[Workbench]:
    with NativeBackend("test-tracing") as backend, open_workbench(backend) as opened:
        yield opened


@pytest.fixture(scope="module")
def sources(bench: Workbench) -> dict[str, str]:
    """Source → why it can not be had here, "" if it can."""
    server, _ = start_server(bench.backend, Spec("server", PLAIN, "linux"))
    found = {}
    ways = {"perf": lambda: perf.attach(server), "strace": lambda: strace.count(bench.backend, server)}
    for name, attach in ways.items():
        try:
            with attach():
                found[name] = ""
        except MachineError as error:
            found[name] = error.why or error.what
    server.stop()
    return found


def count(bench: Workbench, name: str, source: str, load: Load) -> tracing.Traced:
    trial = Trial(number=1, repeat=1, cell=Cell(server=name, load="x"))
    found = tracing.run_traced(bench, trial, MODELS[name], "linux", load, Timing(window_seconds=0.3),
                               source)  # type: ignore[arg-type]
    assert not found.failure, (found.failure, found.log)
    return found


@pytest.mark.parametrize("source", ["perf", "strace"])
@pytest.mark.parametrize("name", EXACT)
def test_calls_a_request_are_exact(bench: Workbench, sources: dict[str, str], name: str, source: str) -> None:
    if sources[source]:
        pytest.skip(f"{source}: {sources[source]}")
    found = count(bench, name, source, Load(connections=1))
    assert found.requests >= 50 and found.source == source
    assert found.per_request == pytest.approx(len(EXACT[name]), rel=0.02)
    for call in EXACT[name]:
        assert found.calls[call] == pytest.approx(found.requests, rel=0.02)


@pytest.mark.parametrize("source", ["perf", "strace"])
def test_an_idle_server_is_silent_but_for_the_busy_one(bench: Workbench, sources: dict[str, str], source: str) -> None:
    if sources[source]:
        pytest.skip(f"{source}: {sources[source]}")
    load = Load(connections=3, active=0)
    quiet, busy = (count(bench, name, source, load) for name in ("epoll", "busy-poll"))
    assert quiet.requests == busy.requests == 0 and quiet.per_request is None
    assert sum(quiet.calls.values()) <= 2
    assert sum(busy.calls.values()) / busy.seconds > 1000


def test_the_server_lives_on_undisturbed(bench: Workbench, sources: dict[str, str]) -> None:
    if sources["strace"]:
        pytest.skip(sources["strace"])
    pool = ("-m", "servers.blocking.thread_pool_server")
    server, address = start_server(bench.backend, Spec("server", pool, "linux"))
    try:
        for _ in range(2):  # it can be traced again afterwards
            with strace.attach(bench.backend, server) as tracer:
                assert len(tracer.threads) > 1  # all of the pool
                assert bench.fleets(1)[0].verify(address, "tcp") is None
                assert {"recvfrom", "sendto"} <= {call.name for call in tracer.detach()}
        with strace.attach(bench.backend, server):
            pass  # left without detaching: the tracer is killed
        assert bench.fleets(1)[0].verify(address, "tcp") is None and server.exit_code() is None
        pid = server.host_pid()  # type: ignore[attr-defined]
        for status in Path(f"/proc/{pid}/task").glob("*/status"):
            assert "TracerPid:\t0\n" in status.read_text()
    finally:
        server.stop()


def test_what_cannot_be_traced_is_said(bench: Workbench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    server, _ = start_server(bench.backend, Spec("server", PLAIN, "linux"))
    monkeypatch.setenv("PATH", str(tmp_path))
    try:
        with pytest.raises(MachineError, match="strace cannot be attached") as caught, \
                strace.attach(bench.backend, server):
            pass
        assert "not installed" in caught.value.why and "install strace" in caught.value.try_this
        with pytest.raises(MachineError, match="perf"), perf.attach(server):
            pass
    finally:
        server.stop()


def test_a_model_that_the_script_cannot_speak_to() -> None:
    with pytest.raises(InputError, match="no server model"):
        timeline.trace(["selekt"], "native")


def test_the_deaf_stretch_and_the_round_of_questions(sources: dict[str, str]) -> None:
    if sources["strace"]:
        pytest.skip(sources["strace"])
    deaf, quick = timeline.trace(["blocking", "select"], "native").timelines
    kept = deaf.clients[1].asks[0]
    assert kept.answered_us is not None and kept.answered_us - kept.asked_us > 100_000  # until client 1 left
    assert "in recvfrom for client 1" in timeline.sentences(deaf)[0]
    assert deaf.calls["recvfrom"] in (5, 6)  # client 3's two requests lay there as one; its end may come too late
    waits = [ask.answered_us - ask.asked_us for client in quick.clients for ask in client.asks
             if ask.answered_us is not None]
    assert len(waits) == 4 and max(waits) < (kept.answered_us - kept.asked_us) / 2
    assert quick.calls["pselect6"] >= 4
    assert [len(client.asks) for client in quick.clients] == [1, 1, 2]
