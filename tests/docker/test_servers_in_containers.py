"""The conformance suite once more: every server model in a container, with the limits that a lab gives it.

The basic tests run for every model. The others, which take longer and need nothing of a container, run for one
model of each group; those about a model's nature run for the models they are about.
"""

from __future__ import annotations

import inspect
import socket
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import docker
import psutil
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "contract"))
import conformance as c
import test_http_servers
import test_natural_limits
import test_servers
from test_servers import server  # noqa: F401 - a fixture; the starter that it asks for is overridden below

from labs.harness.deploy import docker_backend
from labs.harness.deploy.base import Output, Spec
from labs.harness.deploy.docker_backend import Container, DockerBackend
from labs.harness.images import Image
from labs.harness.model import Profile
from servers.contract import EXIT_UNAVAILABLE

BASIC = {"test_bytes_cut_anywhere", "test_eight_megabytes_through_a_slow_reader",
         "test_half_close_is_answered_to_the_end", "test_resets_end_only_their_own_conversation",
         "test_a_megabyte_through_a_slow_reader", "test_resets_in_the_midst_of_a_body_end_only_their_own"}
REPRESENTATIVES = {"processes", "busy_poll", "epoll", "signal", "io_uring", "asyncio_protocol"}
OTHER_SYSTEMS = {"kqueue", "proactor"}
"""Models that no Linux image can run. What any other lacks is the image's fault."""


def narrowed(test: Callable[..., None], models: list[c.Model]) -> Callable[..., None]:
    """The same test for these models only."""
    def same(server: test_servers.Start, model: c.Model) -> None:  # noqa: F811
        test(server, model)

    return test_servers.each(models)(same)


def asks_for_a_server(test: Any) -> bool:
    return inspect.isfunction(test) and list(inspect.signature(test).parameters) == ["server", "model"]


def models_of(test: Any) -> list[c.Model]:
    (models,) = [mark.args[1] for mark in test.pytestmark if mark.name == "parametrize"]
    return [model for model in models if model.name not in OTHER_SYSTEMS]


def suite() -> Iterator[tuple[str, Callable[..., None]]]:
    """Name and function of each test that runs here."""
    for module, prefix in (test_servers, "test_"), (test_natural_limits, "test_"), (test_http_servers, "test_http_"):
        for name, test in vars(module).items():
            if not name.startswith("test_") or not asks_for_a_server(test):
                continue
            models = models_of(test)
            if name not in BASIC and module is test_servers:
                models = [model for model in models if model.name in REPRESENTATIVES]
            if name in BASIC or module is not test_http_servers:
                yield prefix + name.removeprefix("test_"), narrowed(test, models)


globals().update(suite())


class WholeOutput(Output):
    """Keeps all of stderr, not only its end: the suite counts messages."""

    def __init__(self) -> None:
        super().__init__()
        self.errors = bytearray()

    def feed(self, stream: str, data: bytes) -> None:
        if stream == "stderr":
            self.errors += data
        super().feed(stream, data)


class ContainedServer(c.NativeServer):
    """A server in a container on this machine's kernel: its processes are seen from here like any other."""

    def __init__(self, container: Container, pid: int, address: tuple[str, int]) -> None:
        self.container, self.pid, self.address = container, pid, address

    def tree(self) -> list[psutil.Process]:
        try:
            parent = psutil.Process(self.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def alive(self) -> bool:
        return self.container.exit_code() is None

    def stderr(self) -> str:
        assert isinstance(self.container.output, WholeOutput)
        return self.container.output.errors.decode(errors="replace")

    def stop(self) -> None:
        self.container.stop()


@pytest.fixture(scope="module")
def shared_backend(client: docker.APIClient, image: Image) -> Iterator[DockerBackend]:
    with pytest.MonkeyPatch.context() as patch, DockerBackend(f"test-{uuid.uuid4().hex[:12]}", image, client) as opened:
        patch.setattr(docker_backend, "Output", WholeOutput)
        if opened.manifest()["local"] != "True":
            pytest.skip("the engine is on another machine, so the servers' processes cannot be seen from here")
        yield opened


@pytest.fixture
def start_server(shared_backend: DockerBackend, client: docker.APIClient) -> test_servers.Start:
    def start(model: c.Model, arguments: Sequence[str] = (), limits: c.Limits = c.Limits()) -> ContainedServer:  # noqa: B008
        command = ("-m", model.module, "--host", shared_backend.listen_host, "--port", "9000", *arguments)
        profile: Profile = "io-uring" if model.name == "io_uring" else "linux"
        container = shared_backend.start(Spec("server", command, profile, descriptors=limits.descriptors,
                                              pids=limits.processes or 4096))
        word, *_ = (container.output.readline(c.DEADLINE) or "nothing").split()
        if word != "READY" and container.exit_code() == EXIT_UNAVAILABLE and model.name == "io_uring":
            pytest.skip(f"this kernel has no io_uring to give: {' '.join(container.output.tail())}")
        assert word == "READY", container.output.tail()
        pid = client.inspect_container(container.id)["State"]["Pid"]
        return ContainedServer(container, pid, (container.host, 9000))

    return start


@test_servers.each([model for model in c.ALL_MODELS if model.protocol == "udp"])
def test_datagrams_are_answered_each_by_itself(server: test_servers.Start, model: c.Model) -> None:  # noqa: F811
    running = server(model)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(c.DEADLINE)
        one.connect(running.address)
        for data in b"hello", b"", bytes(range(256)) * 4:
            one.send(data)
            assert one.recv(2000) == data.upper()
