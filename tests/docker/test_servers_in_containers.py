"""The conformance suite once more: every server model in a container, with the limits that a lab gives it."""

from __future__ import annotations

import inspect
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import docker
import psutil
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "contract"))
import conformance as c
import test_servers
from test_servers import server, start_server  # noqa: F401 - fixtures: the one taken over, the other overridden below

from labs.harness.deploy import docker_backend
from labs.harness.deploy.base import Output, Spec
from labs.harness.deploy.docker_backend import Container, DockerBackend
from labs.harness.images import Image
from servers.contract import EXIT_UNAVAILABLE

NATIVE_ONLY = {"test_children_die_with_their_parent"}  # in a container the parent is process 1: the kernel sees to it

# Every other test of the suite that asks for a server; those about files and command lines are of no concern here.
globals().update({name: test for name, test in vars(test_servers).items()
                  if name.startswith("test_") and name not in NATIVE_ONLY
                  and "server" in inspect.signature(test).parameters})


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
def start_server(shared_backend: DockerBackend, client: docker.APIClient) -> test_servers.Start:  # noqa: F811
    def start(model: c.Model, arguments: Sequence[str] = (), limits: c.Limits = c.Limits()) -> ContainedServer:  # noqa: B008
        command = ("-m", model.module, "--host", shared_backend.listen_host, "--port", "9000", *arguments)
        container = shared_backend.start(Spec("server", command, "linux", descriptors=limits.descriptors,
                                              pids=limits.processes or 4096))
        word, *_ = (container.output.readline(c.DEADLINE) or "nothing").split()
        if word != "READY" and container.exit_code() == EXIT_UNAVAILABLE:
            container.stop()
            pytest.skip(f"{model.name}, in the image: {' '.join(container.output.tail())}")
        assert word == "READY", container.output.tail()
        pid = client.inspect_container(container.id)["State"]["Pid"]
        return ContainedServer(container, pid, (container.host, 9000))

    return start

