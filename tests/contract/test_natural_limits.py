"""Each model at the limit it has by nature: it refuses or waits as its docstring says, and lives on."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys

import conformance as c
import pytest
from conformance import Model, ask, connect, nature, receive
from test_servers import Start, all_served, each, server, start_server, survives  # noqa: F401 (fixtures)

from labs.harness.deploy.native_backend import environment
from labs.harness.model import Profile
from servers.contract import EXIT_UNAVAILABLE

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has profiles that take pollers away")
bounded = each([model for model in c.TCP_MODELS if nature(model).serves_at_once])
POLLERS: dict[Profile, set[str]] = {
    "poll-only": {"select.epoll"},
    "select-only": {"select.epoll", "select.EPOLLEXCLUSIVE", "select.poll"},
}
"""What each profile takes away."""


def named(*names: str) -> pytest.MarkDecorator:
    found: pytest.MarkDecorator = each([model for model in c.TCP_MODELS if model.name in names])
    return found


def greeted(running: c.Server, count: int) -> list[socket.socket]:
    """So many new clients that have said hello and heard nothing yet."""
    clients = [connect(running) for _ in range(count)]
    for client in clients:
        client.sendall(b"hello")
    return clients


# More clients than threads or processes


@bounded
def test_serves_so_many_at_once_and_the_others_wait(server: Start, model: Model) -> None:  # noqa: F811
    running = server(model)
    bound = nature(model).serves_at_once
    assert bound
    clients = greeted(running, bound + 3)
    assert len(c.answered(clients, bound)) == bound
    assert len(c.answered(clients, bound + 1, 2 * c.QUIET)) == bound
    all_served(clients)


@named("thread_pool", "process_pool")
def test_clients_that_say_nothing_hold_the_whole_pool(server: Start, model: Model) -> None:  # noqa: F811
    running = server(model)
    bound = nature(model).serves_at_once
    assert bound
    silent = [connect(running) for _ in range(bound)]
    for client in silent:
        ask(client)  # by now each has a thread or a process to itself
    (late,) = greeted(running, 1)
    assert not c.answered([late], 1, 2 * c.QUIET), "served beyond the pool's size"
    silent.pop().close()
    assert receive(late, 5) == b"HELLO"
    for client in [late, *silent]:
        ask(client)
        client.close()


@named("thread_pool", "process_pool")
def test_the_size_of_a_pool_is_an_option(server: Start, model: Model) -> None:  # noqa: F811
    running = server(model, "--threads" if model.name == "thread_pool" else "--processes", "2")
    clients = greeted(running, 5)
    assert len(c.answered(clients, 2)) == 2
    assert len(c.answered(clients, 3, 2 * c.QUIET)) == 2
    all_served(clients)


@named("process_pool")
def test_a_dead_worker_is_replaced(server: Start, model: Model) -> None:  # noqa: F811
    running = server(model)
    if not isinstance(running, c.NativeServer):
        pytest.skip("workers are killed by their process id, which is not known here")
    c.settled(running.processes)
    workers = running.tree()[1:]
    assert len(workers) == nature(model).serves_at_once
    for worker in workers:
        worker.kill()
    old = {worker.pid for worker in workers}
    c.eventually(lambda: len({p.pid for p in running.tree()[1:]} - old) == len(workers), "the workers are replaced")
    with connect(running) as client:
        ask(client)


@named("processes", "threads")
def test_waits_when_no_process_or_thread_is_granted(server: Start, model: Model) -> None:  # noqa: F811
    """The limit is on processes and threads together, and the server itself is one."""
    limit = 20
    running = server(model, processes=limit)
    clients = greeted(running, limit + 10)
    first = c.answered(clients, limit - 1)
    assert len(first) == limit - 1
    assert len(c.answered(clients, limit, 2 * c.QUIET)) == limit - 1, "served beyond the limit"
    before = running.cpu()
    assert len(c.answered(clients, limit, 2 * c.QUIET)) == limit - 1
    assert running.cpu() - before < 0.2, "it spins while it waits"
    for client in first[:5]:
        assert receive(client, 5) == b"HELLO"
        client.close()
    waiting = [client for client in clients if client not in first]
    assert len(c.answered(waiting, 5)) >= 5, "nobody took the place of those that left"
    all_served([*first[5:], *waiting])
    c.eventually(lambda: running.processes() == 1, "only the server is left")
    with connect(running) as late:
        ask(late)


# Too many descriptors for select


@pytest.mark.skipif(sys.platform == "win32", reason="Windows counts sockets instead of numbering descriptors")
@each([model for model in c.TCP_MODELS if nature(model).select_limit])
def test_select_refuses_the_newest_beyond_its_limit(server: Start, model: Model) -> None:  # noqa: F811
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
        c.eventually(lambda: len(running.stderr().splitlines()) >= 1100 - held, "it says whom it refused")
        refusals = running.stderr().splitlines()
        assert len(refusals) == 1100 - held
        assert all(line.endswith("filedescriptor out of range in select()") for line in refusals)
        for client in clients[:100]:
            client.close()
        c.eventually(lambda: welcome(running), "newcomers are served again")  # once the leavers' descriptors are closed
        for client in clients[100:held]:
            ask(client)
        for client in clients[100:]:
            client.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def welcome(running: c.Server) -> bool:
    """Whether a new client is served."""
    with contextlib.suppress(OSError), connect(running) as client:
        client.sendall(b"hello")
        return survives(client)
    return False


# A poller that the platform does not have


def absent(model: Model, profile: Profile) -> list[str]:
    """What the profile leaves the model without: requirements of which no alternative remains."""
    elsewhere = POLLERS[profile] | {"select.kqueue", "asyncio.ProactorEventLoop", "winloop"}
    return [names for names in model.requires if set(names.split(" or ")) <= elsewhere]


@linux_only
@pytest.mark.parametrize("profile", POLLERS)
@each([model for model in c.ALL_MODELS if model.protocol != "udp"])
def test_without_its_poller_a_model_exits_69_and_the_others_serve(model: Model, profile: Profile) -> None:
    if lacking := c.lacking(model):
        pytest.skip(f"{model.name}: this machine has no {', '.join(lacking)}")
    if names := absent(model, profile):
        done = subprocess.run([sys.executable, "-m", model.module], cwd=c.ROOT, env=environment(profile), text=True,
                              capture_output=True, timeout=c.DEADLINE)
        assert (done.returncode, done.stdout) == (EXIT_UNAVAILABLE, "")
        assert done.stderr == f"unavailable: this machine has no {', '.join(names)}\n"
        return
    running = c.start_natively(model, environment=environment(profile))
    try:
        with connect(running) as client:
            if model.protocol == "tcp":
                ask(client)
            else:
                client.sendall(b"POST / HTTP/1.1\r\nHost: lab\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
                assert receive(client, 100_000).endswith(b"\r\n\r\nHELLO")
        assert running.alive() and "Traceback" not in running.stderr()
    finally:
        running.stop()
