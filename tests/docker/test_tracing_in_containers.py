"""The tracer in a container of its own: what it counts, and what it may."""

from __future__ import annotations

import docker
import pytest

from labs.harness.deploy.base import Process, Spec
from labs.harness.deploy.docker_backend import DockerBackend
from labs.harness.errors import MachineError
from labs.harness.fleets import Address, start_fleet
from labs.harness.measure import perf, strace
from labs.harness.measure.calls import CallCounter, Counts
from labs.harness.model import Load
from labs.harness.pool import start_server

REQUESTS = 200


def serve(backend: DockerBackend) -> tuple[Process, Address]:
    command = ("-m", "servers.blocking.blocking_server", "--host", backend.listen_host, "--port", "0")
    return start_server(backend, Spec("server", command, "linux"))


def ask(backend: DockerBackend, address: Address, counter: CallCounter) -> Counts:
    """Exactly REQUESTS requests within the counter's window."""
    fleet = start_fleet(backend, "linux", ())
    fleet.load(address, Load(connections=1, requests=REQUESTS))
    counter.begin()
    fleet.begin()
    fleet._await("done", strace.Deadline(30))
    result = fleet.end()
    counts = counter.end()
    assert result.requests == REQUESTS and not result.errors
    return counts


def test_strace_counts_every_call_of_a_server_in_a_container(backend: DockerBackend) -> None:
    server, address = serve(backend)
    with strace.count(backend, server) as counter:
        counts = ask(backend, address, counter)
    assert counts.calls["sendto"] == REQUESTS
    assert REQUESTS <= counts.calls["recvfrom"] <= REQUESTS + 1
    assert server.exit_code() is None


def test_perf_agrees_where_it_works(backend: DockerBackend) -> None:
    server, address = serve(backend)
    try:
        with perf.attach(server) as counter:
            counts = ask(backend, address, counter)
    except MachineError as error:
        if error.what != perf.CANNOT:
            raise
        pytest.skip(f"{error.what}: {error.why}")
    assert counts.calls["sendto"] == REQUESTS
    assert REQUESTS <= counts.calls["recvfrom"] <= REQUESTS + 1


def test_the_tracer_may_trace_and_nothing_else(backend: DockerBackend, client: docker.APIClient) -> None:
    server, _ = serve(backend)
    tracer = backend.start(Spec("tracer", ("-m", "images.tracer.attach", "--root", "1"), "linux", watches=server))
    assert (tracer.output.readline(30) or "").startswith("ATTACHED 1 1:1"), tracer.output.tail()
    host = client.inspect_container(tracer.id)["HostConfig"]
    assert host["PidMode"] == f"container:{server.id}"  # type: ignore[attr-defined]
    assert host["NetworkMode"] == "none"
    assert host["CapDrop"] == ["ALL"] and sorted(host["CapAdd"]) == ["KILL", "SYS_PTRACE"]
    assert host["ReadonlyRootfs"] and "no-new-privileges" in host["SecurityOpt"] and not host["Privileged"]
    tracer.write("detach")
    lines = []
    while (line := tracer.output.readline(30)) is not None:
        lines.append(line)
    assert lines[-1].startswith("DETACHED ") and tracer.exit_code() == 0
    assert server.exit_code() is None
