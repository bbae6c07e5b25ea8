"""Ten thousand connections on one thread: an epoll server and the fleet, each in a container."""

from __future__ import annotations

import pytest

from labs.harness.deploy.base import Spec
from labs.harness.deploy.docker_backend import DockerBackend
from labs.harness.fleets import start_fleet
from labs.harness.model import Load
from labs.harness.pool import start_server

CONNECTIONS, ACTIVE, WINDOW_SECONDS = 10_000, 100, 2
SPARE = 100
"""Descriptors that server and fleet need beside their connections."""


def test_epoll_holds_ten_thousand_with_a_hundred_active(backend: DockerBackend) -> None:
    server, address = start_server(backend, Spec("server", (
        "-m", "servers.multiplexing.epoll_server", "--host", backend.listen_host, "--port", "0"), "linux",
        descriptors=CONNECTIONS + SPARE))
    if short := backend.manifest().get("descriptors"):
        pytest.skip(f"descriptors: {short}")
    fleet = start_fleet(backend, "linux", ())
    connected = fleet.load(address, Load(connections=CONNECTIONS, active=ACTIVE, connect_seconds=30))
    before = server.collector().sample()
    fleet.begin()
    fleet.watch(WINDOW_SECONDS)
    result = fleet.end()
    held = server.collector().sample()
    fleet.stop()
    assert connected["connected"] == CONNECTIONS, connected
    assert (result.connections["held"], result.wrong, result.errors) == (CONNECTIONS, 0, {})
    assert result.requests > 10 * ACTIVE, "the hundred hardly got an answer"
    assert held.cpu_seconds > before.cpu_seconds and server.exit_code() is None
