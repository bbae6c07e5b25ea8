"""The fleet against servers that behave: every load, every order, every poller."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import psutil
import pytest
from fleet_agent import ROOT, Agent, echo, misbehaving, server

from clients.pollers import available

SELECTORS = "servers.multiplexing.selectors_server"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with server(SELECTORS) as number:
        yield number


@pytest.fixture(scope="module")
def shared() -> Iterator[Agent]:
    agent = Agent()
    yield agent
    agent.close()
    assert agent.process.returncode == 0


@pytest.fixture
def fleet(shared: Agent) -> Iterator[Agent]:
    """One agent for many loads, as a runner uses it."""
    shared.seen.clear()
    yield shared
    assert shared.ask("stop", "stopped")["event"] == "stopped"


def assert_right(result: dict) -> None:
    assert (result["wrong"], result["first_wrong"], result["errors"]) == (0, None, {})
    assert result["requests"] == result["latency"]["count"] > 0


def test_ready_names_the_fleet(fleet: Agent) -> None:
    assert fleet.ready == {"event": "ready", "workers": 1, "poller": available()[0], "pid": fleet.process.pid,
                           "descriptors": fleet.ready["descriptors"]}


@pytest.mark.parametrize("module", [SELECTORS, "servers.blocking.threads_server"])
def test_verify_finds_a_right_server_right(fleet: Agent, module: str) -> None:
    with server(module) as number:
        assert fleet.ask("verify", "verified", target=["127.0.0.1", number], protocol="tcp") == {
            "event": "verified", "ok": True, "why": ""}


def test_closed_loop_counts_every_byte(fleet: Agent, port: int) -> None:
    connected = fleet.load(port, connections=20)
    assert (connected["asked"], connected["connected"], connected["answered"], connected["failed"]) == (20, 20, 20, {})
    result = fleet.measure(0.5)
    assert_right(result)
    assert result["connections"] == {"asked": 20, "connected": 20, "served": 20, "held": 20, "opened": 0, "lost": 0,
                                     "failed": {}}
    # one request a connection may be under way at either edge of the window
    for count in (result["bytes_sent"], result["bytes_received"]):
        assert abs(count - 64 * result["requests"]) <= 64 * 20
    assert result["latency"]["min_us"] <= result["latency"]["p50_us"] <= result["latency"]["max_us"] + 1
    assert result["served_share"]["min"] > 0 and result["latency_uncorrected"] is None
    assert 0 < result["cpu"]["busiest_worker_share"] < 1.2
    assert result["achieved_rate"] == pytest.approx(result["requests"] / result["seconds"])


def test_histogram_holds_every_request(fleet: Agent, port: int) -> None:
    from hdrh.histogram import HdrHistogram
    fleet.load(port, connections=5, workers=2)
    result = fleet.measure(0.3)
    assert HdrHistogram.decode(result["latency"]["hdr"]).get_total_count() == result["requests"]
    assert result["workers"] == 2


def test_idle_crowd_is_held_and_only_the_active_ask(fleet: Agent, port: int) -> None:
    assert fleet.load(port, connections=300, active=7)["answered"] == 300
    result = fleet.measure(0.3)
    assert_right(result)
    assert (result["connections"]["held"], result["connections"]["served"]) == (300, 7)


@pytest.mark.skipif(sys.platform == "win32", reason="select takes 512 sockets")
def test_ten_thousand_connections(fleet: Agent) -> None:
    import resource
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 10_100:
        pytest.skip("the descriptor limit is below 10,100")
    if "epoll" not in available():
        pytest.skip("no epoll")
    with server("servers.multiplexing.epoll_server") as number:
        connected = fleet.load(number, connections=10_000, active=100)
        result = fleet.measure(0.3)
        fleet.ask("stop", "stopped")
    assert connected["answered"] == 10_000
    assert_right(result)
    assert (result["connections"]["held"], result["connections"]["served"]) == (10_000, 100)


def test_orders_are_obeyed_at_once_under_full_load(fleet: Agent, port: int) -> None:
    """begin and end keep several fleets in step: against a tick of 500 ms, or a wait for the load to pause."""
    fleet.load(port, connections=50)
    times = []
    for _ in range(9):
        start = time.monotonic()
        fleet.ask("begin", "begun")
        times.append(time.monotonic() - start)
    assert sorted(times)[4] < 0.05


def test_ungreeted_connections_are_connected_but_not_held(fleet: Agent, port: int) -> None:
    connected = fleet.load(port, connections=10, active=0, greet=False)
    assert (connected["connected"], connected["answered"]) == (10, 0)
    assert fleet.measure(0.1)["connections"]["held"] == 0


def test_blocking_server_answers_one_only(fleet: Agent) -> None:
    with server("servers.blocking.blocking_server") as number:
        connected = fleet.load(number, connections=5)
        assert (connected["connected"], connected["answered"]) == (5, 1)
        result = fleet.measure(0.3)
        fleet.ask("stop", "stopped")
    assert (result["connections"]["served"], result["connections"]["held"]) == (1, 1)
    assert result["served_share"]["min"] == 0


@pytest.mark.parametrize("load", [
    {"message_bytes": 3_000_000, "connections": 2},
    {"message_bytes": 1},
    {"message_bytes": 16_384},
    {"pipeline": 10, "connections": 4},
    {"pipeline": 3, "message_bytes": 100_000, "connections": 3},
    {"think_seconds": 0.01},
    {"workers": 3, "connections": 7},
    {"send_bytes_per_second": 2000, "connections": 4},
], ids=json.dumps)
def test_every_shape_of_load_is_answered_rightly(fleet: Agent, port: int, load: dict) -> None:
    assert not fleet.load(port, **load)["failed"]
    assert_right(fleet.measure(0.6))


def test_longest_messages_are_verified_while_they_stream(fleet: Agent, port: int) -> None:
    fleet.load(port, connections=1, message_bytes=64 * 1024 * 1024, requests=1, greet=False)
    fleet.ask("begin", "begun")
    fleet.wait_for("done")
    result = fleet.ask("end", "result")
    assert_right(result)
    assert result["bytes_received"] == result["bytes_sent"] == 64 * 1024 * 1024


def test_number_of_requests_is_exact_and_dealt_in_turn(fleet: Agent, port: int) -> None:
    fleet.load(port, connections=9, active=7, requests=100, workers=2)
    fleet.ask("begin", "begun")
    fleet.wait_for("done")
    result = fleet.ask("end", "result")
    assert_right(result)
    assert (result["requests"], result["bytes_sent"]) == (100, 6400)
    assert (result["served_share"]["min"], result["served_share"]["max"]) == (14, 15)


def test_open_loop_keeps_its_rate(fleet: Agent, port: int) -> None:
    fleet.load(port, connections=10, rate=500)
    result = fleet.measure(1.0)
    assert_right(result)
    assert result["offered_rate"] == 500
    assert 400 < result["achieved_rate"] < 600
    assert result["served_share"]["max"] - result["served_share"]["min"] <= 2
    assert result["schedule_lag"]["p50_us"] <= result["schedule_lag"]["max_us"]


def test_open_loop_counts_a_stall_from_the_intended_time(fleet: Agent) -> None:
    stall = threading.Event()

    def stalling(sock: socket.socket) -> None:
        while data := sock.recv(65_536):
            if stall.is_set():
                time.sleep(0.5)
                stall.clear()
            sock.sendall(data.upper())

    with misbehaving(stalling) as number:
        fleet.load(number, connections=1, rate=100)
        fleet.ask("begin", "begun")
        stall.set()
        fleet.wait_for("progress")
        fleet.wait_for("progress")
        fleet.wait_for("progress")
        result = fleet.ask("end", "result")
        fleet.ask("stop", "stopped")
    # some 50 requests were due during the stall; only one of them was on its way
    corrected, uncorrected = result["latency"], result["latency_uncorrected"]
    assert corrected["p90_us"] > 100_000 and uncorrected["max_us"] > 400_000
    assert uncorrected["p90_us"] < corrected["p90_us"] / 4


def test_churn_opens_anew_and_counts(fleet: Agent, port: int) -> None:
    fleet.load(port, connections=5, requests_per_connection=3)
    result = fleet.measure(0.5)
    assert_right(result)
    assert result["connections"]["opened"] > 10
    assert abs(result["requests"] - 3 * result["connections"]["opened"]) <= 3 * 5 * 2


def test_slow_reader_reads_no_faster_than_told(fleet: Agent, port: int) -> None:
    fleet.load(port, connections=2, message_bytes=200_000, read_bytes_per_second=50_000)
    result = fleet.measure(1.0)
    assert 0 < result["bytes_received"] < 2 * 50_000 * 1.5
    assert result["errors"] == {} and result["wrong"] == 0


def test_slow_sender_sends_no_faster_than_told(fleet: Agent, port: int) -> None:
    fleet.load(port, connections=2, send_bytes_per_second=1000)
    result = fleet.measure(1.0)
    assert_right(result)
    assert 0 < result["bytes_sent"] < 2 * 1000 * 1.5


def test_reader_that_never_reads_stalls_its_server(fleet: Agent, port: int) -> None:
    assert fleet.load(port, connections=2, message_bytes=20_000_000, read_bytes_per_second=0,
                      greet=False)["connected"] == 2
    fleet.ask("stop", "stopped")
    fleet.load(port, connections=2, message_bytes=2_000_000, read_bytes_per_second=0)
    result = fleet.measure(0.5)
    assert (result["bytes_received"], result["requests"], result["connections"]["held"]) == (0, 0, 2)


def test_knobs_of_a_running_load(fleet: Agent, port: int) -> None:
    fleet.load(port, connections=10, active=2)
    before = fleet.measure(0.3)
    assert fleet.ask("set", "set", load={"active": 10, "rate": 200}) == {"event": "set"}
    during = fleet.measure(0.5)
    assert fleet.ask("set", "set", load={"rate": None, "active": 1}) == {"event": "set"}
    after = fleet.measure(0.3)
    for result in (before, during, after):
        assert_right(result)
    assert [r["connections"]["served"] for r in (before, during)] == [2, 10]
    assert after["requests"] > 200 and after["connections"]["held"] == 10
    assert during["achieved_rate"] < 300
    assert fleet.ask("set", "set", load={"connections": 3})["event"] == "error"


def test_progress_comes_and_grows(fleet: Agent, port: int) -> None:
    fleet.load(port, connections=5)
    first, second = fleet.wait_for("progress"), fleet.wait_for("progress")
    assert second["requests"] > first["requests"] and second["per_second"] > 0
    assert (second["connections"], second["errors"]) == (5, 0)


@pytest.mark.parametrize("order, why", [
    ("nonsense", "not an order"), ("[1]", "not an order"), ('{"order": "dance"}', "unknown order"),
    ('{"order": "begin"}', "cannot obey"), ('{"order": "set", "load": 5}', "cannot set"),
    ('{"order": "load", "target": "x"}', "bad target"),
    ('{"order": "verify", "target": ["127.0.0.1", 9], "timeout": "soon"}', "bad timeout"),
    ('{"order": "load", "target": ["no.such.name", 9], "load": {}}', "bad target"),
    ('{"order": "load", "target": ["127.0.0.1", 9], "load": {"conections": 5}}', "bad load"),
    ('{"order": "load", "target": ["127.0.0.1", 9], "load": {"connections": "5"}}', "bad load"),
])
def test_a_bad_order_is_answered_and_survived(fleet: Agent, order: str, why: str) -> None:
    fleet.tell(order)
    event = fleet.wait_for("error")
    assert why in event["what"] and event["why"]


@pytest.mark.parametrize("poller", available())
def test_every_poller_of_this_system(poller: str, port: int) -> None:
    agent = Agent("--poller", poller)
    try:
        assert agent.load(port, connections=30)["answered"] == 30
        assert_right(agent.measure(0.3))
        agent.load(port, connections=30, rate=300, requests_per_connection=2)
        result = agent.measure(0.5)
        assert_right(result)
        assert result["poller"] == poller
    finally:
        agent.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows counts no descriptors")
def test_descriptor_limit_means_more_workers_or_fewer_connections(port: int) -> None:
    command = ["bash", "-c", f"ulimit -n 200; exec {sys.executable} -m clients.fleet --target 127.0.0.1:{port} "
               "--warmup 0 --seconds 0.2 \"$@\"", "-"]
    for options, held, workers in ((["--load", '{"connections": 300}'], 300, 3),
                                   (["--load", '{"connections": 300}', "--workers", "1"], 136, 1)):
        done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
        result = json.loads(done.stdout.splitlines()[-1])
        assert (result["connections"]["held"], result["workers"]) == (held, workers)
        assert bool(result["notes"]) == (workers == 1)


def by_hand(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "clients.fleet", *options], cwd=ROOT, capture_output=True, text=True,
                          timeout=60)


def test_by_hand(port: int) -> None:
    done = by_hand("--target", f"127.0.0.1:{port}", "--load", '{"connections": 3}', "--warmup", "0", "--seconds", "0.7")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    names = [event["event"] for event in events]
    assert done.returncode == 0 and done.stderr == ""
    assert [n for n in names if n != "progress"] == ["ready", "connected", "begun", "result"] and "progress" in names
    assert_right(events[-1])


@pytest.mark.parametrize("options, code, message", [
    (["--target", "127.0.0.1:9", "--load", "{"], 2, "not JSON"),
    (["--target", "127.0.0.1:9", "--load", '{"conections": 1}'], 2, "did you mean 'connections'"),
    (["--target", "nowhere"], 2, "host:port"),
    ([], 2, "--target"),
    (["--target", "127.0.0.1:1"], 3, "ConnectionRefusedError"),
])
def test_by_hand_bad_input_and_refusal(options: list[str], code: int, message: str) -> None:
    done = by_hand(*options)
    assert done.returncode == code and message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL; TerminateProcess ends the tree's pipes the same")
@pytest.mark.parametrize("signal", ["SIGKILL", "SIGINT", "SIGTERM"])
def test_no_worker_outlives_its_coordinator(port: int, signal: str) -> None:
    import signal as signals
    agent = Agent("--workers", "2")
    agent.load(port, connections=10)
    workers = psutil.Process(agent.process.pid).children()
    assert len(workers) == 2
    agent.process.send_signal(getattr(signals, signal))
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
    agent.process.wait(10)
    assert agent.process.stderr and b"Traceback" not in agent.process.stderr.read()


def test_a_dead_worker_is_an_error_and_replaced(port: int) -> None:
    agent = Agent()
    try:
        agent.load(port, connections=3)
        psutil.Process(agent.process.pid).children()[0].kill()
        assert "worker" in agent.wait_for("error")["what"]
        assert agent.load(port, connections=3)["answered"] == 3
        assert_right(agent.measure(0.2))
    finally:
        agent.close()


def test_misbehaving_helper_echoes_rightly(fleet: Agent) -> None:
    """The faulty servers of test_fleet_faults are this one with one thing changed."""
    with misbehaving(echo) as number:
        assert fleet.ask("verify", "verified", target=["127.0.0.1", number])["ok"]
