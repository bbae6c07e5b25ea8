"""The conformance suite: every server model found in servers/, against real sockets and processes.

A test asks `server(model)` for a running one. Another backend runs the same tests by overriding the fixture
`start_server` with its own starter (see conformance.py).
"""

from __future__ import annotations

import random
import socket
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from typing import Any

import conformance as c
import pytest
from conformance import Limits, Model, Server, ask, connect, nature, receive

EVERY_BYTE = bytes(range(256))
EIGHT_MEGABYTES = random.Random(8).randbytes(8_000_000)
Start = Callable[..., Server]


@pytest.fixture
def start_server() -> Start:
    """The starter: override it to run the suite elsewhere."""
    return c.start_natively


@pytest.fixture
def server(start_server: Start) -> Iterator[Start]:
    """Starts servers and stops them at the end; checks that they are still alive then."""
    started: list[Server] = []

    def start(model: Model, *arguments: str, **limits: int) -> Server:
        if lacking := c.lacking(model):
            pytest.skip(f"{model.name}: this machine has no {', '.join(lacking)}")
        started.append(start_server(model, arguments, Limits(**limits)))
        return started[-1]

    yield start
    for one in started:
        living, log = one.alive(), one.stderr()
        one.stop()
        assert living, f"the server died; its stderr:\n{log}"
        assert "Traceback" not in log, log


def each(models: list[Model]) -> Any:
    return pytest.mark.parametrize("model", models, ids=lambda model: model.name)


every_model = each(c.TCP_MODELS)
bounded = each([model for model in c.TCP_MODELS if nature(model).serves_at_once])


def all_served(clients: list[socket.socket]) -> None:
    """Every client (each has sent b"hello") gets its answer when those before it leave."""
    waiting = set(clients)
    while waiting:
        ready = c.answered(waiting, 1)
        assert ready, f"{len(waiting)} of {len(clients)} clients were never answered"
        for client in ready:
            assert receive(client, 5) == b"HELLO"
            client.close()
            waiting.remove(client)


def survives(client: socket.socket) -> bool:
    """Whether this client (it has sent b"hello") was answered and not hung up on."""
    try:
        return receive(client, 5) == b"HELLO"
    except ConnectionError:
        return False


def reset(client: socket.socket) -> None:
    """Leaves without a goodbye."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0))
    client.close()


# What every model does


@every_model
def test_bytes_cut_anywhere(server: Start, model: Model) -> None:
    with connect(server(model)) as client:
        for value in EVERY_BYTE:
            client.sendall(bytes([value]))
        assert receive(client, 256) == EVERY_BYTE.upper()
        rest, cut = EVERY_BYTE * 100, random.Random(1)
        expected = rest.upper()
        while rest:
            size = cut.randint(1, 2000)
            client.sendall(rest[:size])
            rest = rest[size:]
        assert receive(client, len(expected)) == expected


@every_model
def test_eight_megabytes_through_a_slow_reader(server: Start, model: Model) -> None:
    with connect(server(model), receive_buffer=16384) as client:
        sent = c.flood(client, EIGHT_MEGABYTES)
        assert sent < len(EIGHT_MEGABYTES), "the server was never kept from sending"
        assert c.pump(client, EIGHT_MEGABYTES[sent:], half_close=True) == EIGHT_MEGABYTES.upper()


@every_model
def test_half_close_is_answered_to_the_end(server: Start, model: Model) -> None:
    running = server(model)
    for data in (b"", b"last words", EIGHT_MEGABYTES[:1_000_000]):
        with connect(running) as client:
            assert c.pump(client, data, half_close=True) == data.upper()


@every_model
def test_resets_end_only_their_own_conversation(server: Start, model: Model) -> None:
    running = server(model)
    bystander = connect(running) if nature(model).serves_at_once != 1 else None
    if bystander:
        ask(bystander)
    for _ in range(2):
        early, talking, stuffed = connect(running), connect(running), connect(running, receive_buffer=16384)
        reset(early)
        ask(talking)
        talking.sendall(b"x" * 50_000)
        reset(talking)
        c.flood(stuffed, EIGHT_MEGABYTES)
        reset(stuffed)
    for client in [bystander, connect(running)] if bystander else [connect(running)]:
        ask(client)
        client.close()


@every_model
def test_a_client_that_never_reads_stalls_only_itself(server: Start, model: Model) -> None:
    running = server(model)
    with connect(running, receive_buffer=16384) as deaf:
        ask(deaf)  # whatever a client costs has been paid when the memory is measured
        before = c.settled(running.memory)
        sent = c.flood(deaf, EIGHT_MEGABYTES * 4)
        assert sent < len(EIGHT_MEGABYTES) * 4, "the server never stopped reading"
        assert running.memory() - before < 4_000_000
        if nature(model).serves_at_once != 1:
            for _ in range(3):
                with connect(running) as other:
                    ask(other)
        spent = running.cpu()
        time.sleep(0.5)
        assert nature(model).busy_when_idle or running.cpu() - spent < 0.1, "the server spins on the stalled client"


@every_model
def test_waits_when_descriptors_run_out_and_goes_on(server: Start, model: Model) -> None:
    limit = 40
    running = server(model, descriptors=limit)
    clients = [connect(running) for _ in range(60)]
    for client in clients:
        client.sendall(b"hello")
    expected = nature(model).serves_at_once or (limit // 2 if nature(model).descriptors_in_one_process else 60)
    first = c.answered(clients, expected)
    assert len(first) >= expected
    before = running.cpu()
    time.sleep(1)
    assert nature(model).busy_when_idle or running.cpu() - before < 0.2, "it spins while it waits for a descriptor"
    if nature(model).refuses_without_descriptors:
        held = [client for client in c.answered(clients, 60) if survives(client)]
        assert limit // 2 <= len(held) < limit
        for client in clients:
            client.close()
        with connect(running) as late:
            return ask(late)
    if nature(model).descriptors_in_one_process:
        assert len(c.answered(clients, 60, c.QUIET)) < limit, "the limit was never reached"
    all_served(clients)


@every_model
def test_two_hundred_clients_come_and_go(server: Start, model: Model) -> None:
    running = server(model)
    with connect(running) as client:
        ask(client)
    settled = c.settled(running.descriptors)
    for _ in range(10):
        clients = [connect(running) for _ in range(20)]
        for client in clients:
            client.sendall(b"hello")
        all_served(clients)
    c.eventually(lambda: running.descriptors() <= settled, "all descriptors are given back")
    c.eventually(lambda: running.zombies() == 0, "no zombie is left")


@every_model
def test_idle_costs_nothing_but_for_the_busy_poll(server: Start, model: Model) -> None:
    running = server(model)
    clients = [connect(running) for _ in range(20)]
    for client in clients[: nature(model).serves_at_once]:
        ask(client)
    before, start = running.cpu(), time.monotonic()
    time.sleep(1)
    load = (running.cpu() - before) / (time.monotonic() - start)
    # A spin would take a whole CPU; on a crowded machine it gets what is left of one.
    assert load > 0.3 if nature(model).busy_when_idle else load < 0.05
    for client in clients:
        client.close()


# What some do by nature


@bounded
def test_serves_so_many_at_once_and_the_others_wait(server: Start, model: Model) -> None:
    running = server(model)
    bound = nature(model).serves_at_once
    assert bound
    clients = [connect(running) for _ in range(bound + 3)]
    for client in clients:
        client.sendall(b"hello")
    assert len(c.answered(clients, bound)) == bound
    assert len(c.answered(clients, bound + 1, 3 * c.QUIET)) == bound
    all_served(clients)


@each([model for model in c.TCP_MODELS if model.name in ("thread_pool", "process_pool")])
def test_the_size_of_a_pool_is_an_option(server: Start, model: Model) -> None:
    running = server(model, "--threads" if model.name == "thread_pool" else "--processes", "2")
    clients = [connect(running) for _ in range(5)]
    for client in clients:
        client.sendall(b"hello")
    assert len(c.answered(clients, 2)) == 2
    assert len(c.answered(clients, 3, 3 * c.QUIET)) == 2
    all_served(clients)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows counts sockets instead of numbering descriptors")
@each([model for model in c.TCP_MODELS if nature(model).select_limit])
def test_select_refuses_the_newest_beyond_its_limit(server: Start, model: Model) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip(f"needs 2,048 descriptors, the hard limit here is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    try:
        running = server(model, descriptors=2048)
        clients = [connect(running) for _ in range(1100)]
        outcome = []
        for client in clients:
            try:
                client.sendall(b"hello")
                outcome.append(survives(client))
            except OSError:
                outcome.append(False)
        held = sum(outcome)
        assert 1000 < held < 1024
        assert outcome == [True] * held + [False] * (1100 - held), "not the newest were refused"
        refusals = running.stderr().splitlines()
        assert len(refusals) == 1100 - held
        assert all(line.endswith("filedescriptor out of range in select()") for line in refusals)
        for client in clients[:100]:
            client.close()
        with connect(running) as late:
            ask(late)
        for client in clients[100:]:
            client.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@each([model for model in c.TCP_MODELS if model.name == "process_pool"])
def test_a_dead_worker_is_replaced(server: Start, model: Model) -> None:
    running = server(model)
    if not isinstance(running, c.NativeServer):
        pytest.skip("workers are killed by their process id, which only the native backend knows")
    c.settled(running.processes)
    workers = running.tree()[1:]
    assert len(workers) == nature(model).serves_at_once
    for worker in workers:
        worker.kill()
    old = {worker.pid for worker in workers}
    c.eventually(lambda: len({p.pid for p in running.tree()[1:]} - old) == len(workers), "the workers are replaced")
    with connect(running) as client:
        ask(client)


@each([model for model in c.TCP_MODELS if model.requires == ("os.fork",)])
def test_children_die_with_their_parent(server: Start, start_server: Start, model: Model) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux lets a child ask to die with its parent")
    if lacking := c.lacking(model):
        pytest.skip(f"no {lacking}")
    running = start_server(model, (), Limits())
    if not isinstance(running, c.NativeServer):
        pytest.skip("the parent is killed by its process id, which only the native backend knows")
    with connect(running) as client:
        ask(client)
        children = running.tree()[1:]
        assert children
        running.process.kill()
        running.process.wait(c.DEADLINE)
        c.eventually(lambda: all(c.gone(child) for child in children), "the children are gone")


# The process contract


@every_model
def test_source_is_readable_in_two_minutes(model: Model) -> None:
    text = model.path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 100
    first, second, *rest = model.docstring.splitlines()
    assert first.endswith(".") and not second and rest, "one sentence, an empty line, the idea"
    assert isinstance(model.requires, tuple)


def test_no_file_shadows_the_standard_library() -> None:
    assert not {path.stem for path in c.SERVERS.rglob("*.py")} & sys.stdlib_module_names
    assert c.TCP_MODELS


def run_model(path: Any, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys, runpy; sys.path.insert(0, {str(c.ROOT)!r}); runpy.run_path({str(path)!r}, run_name='__main__')"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=c.DEADLINE)


def test_a_model_that_lacks_something_exits_69(tmp_path: Any) -> None:
    path = tmp_path / "wishful_server.py"
    path.write_text(textwrap.dedent('''
        """A model for a machine that nobody has."""
        from servers.contract import run
        def serve(listener):
            raise AssertionError("served without what it requires")
        run(serve, ("select.select", "select.crystal_ball", "no_such_module"))
    '''), encoding="utf-8")
    done = run_model(path)
    assert done.returncode == 69 and not done.stdout
    assert done.stderr == "unavailable: this machine has no select.crystal_ball, no_such_module\n"


def test_a_busy_port_exits_1_with_one_line(server: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_model(c.SERVERS / "blocking" / "blocking_server.py", "--port", str(port))
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.startswith(f"cannot listen on 127.0.0.1 port {port}: ") and done.stderr.count("\n") == 1
