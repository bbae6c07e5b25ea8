"""Collectors of containers, against real containers whose use is known, and against each other."""

import json
import secrets
from collections.abc import Iterator
from typing import Any

import docker
import pytest

from labs.harness import images
from labs.harness.deploy.base import Spec
from labs.harness.deploy.docker_backend import Container, DockerBackend
from labs.harness.deploy.engine import is_local
from labs.harness.errors import MachineError
from labs.harness.measure.containers import ContainerFiles, container_collector
from labs.harness.measure.engine import EngineStats
from labs.harness.model import Usage

PUPPET = """
import json, os, signal, sys, threading, time

def burn(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass
    return time.process_time()

def child(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid

kept = []
print("READY", flush=True)
for line in sys.stdin:
    *statements, last = json.loads(line)
    for statement in statements:
        exec(statement, globals())
    print(json.dumps(eval(last, globals())), flush=True)
"""


@pytest.fixture(scope="module")
def backend(client: docker.APIClient, image: images.Image) -> Iterator[DockerBackend]:
    with DockerBackend(f"test-{secrets.token_hex(4)}", image, client) as backend:
        yield backend


class Puppet:
    """A Python process in a container that does as it is told."""

    def __init__(self, process: Container) -> None:
        self.process, self.id = process, process.id
        assert process.output.readline(20) == "READY"

    def does(self, *code: str) -> Any:
        self.process.write(json.dumps(code))
        line = self.process.output.readline(20)
        assert line is not None, self.process.output.tail()
        return json.loads(line)


@pytest.fixture
def puppet(backend: DockerBackend) -> Iterator[Puppet]:
    process = backend.start(Spec("server", ("-c", PUPPET), "linux"))
    yield Puppet(process)
    process.stop()


@pytest.fixture
def local(client: docker.APIClient) -> None:
    if not is_local(client, client.info()):
        pytest.skip("the engine runs in a virtual machine or elsewhere: its control groups are not seen here")


@pytest.fixture(params=["best", "engine"])
def collector(request: pytest.FixtureRequest, client: docker.APIClient, puppet: Puppet) -> Any:
    if request.param == "best":
        return container_collector(client, puppet.id)
    return EngineStats(client, puppet.id)


def test_cpu_time_is_what_the_process_itself_says(collector: Any, puppet: Puppet) -> None:
    start, before = puppet.does("time.process_time()"), collector.sample()
    used = puppet.does("burn(0.3)") - start
    after = collector.sample()
    assert after.cpu_seconds - before.cpu_seconds == pytest.approx(used, abs=0.03)
    assert after.at_seconds > before.at_seconds
    assert after.cpu_user_seconds + after.cpu_system_seconds == pytest.approx(after.cpu_seconds, rel=0.1, abs=0.03)


def test_memory_and_threads_grow_with_what_is_made(collector: Any, puppet: Puppet) -> None:
    before = collector.sample()
    puppet.does("block = bytearray(b'x') * 50_000_000", "stop = threading.Event()",
                "for _ in range(7): threading.Thread(target=stop.wait, daemon=True).start()", "None")
    after = collector.sample()
    assert after.memory_bytes - before.memory_bytes == pytest.approx(50e6, rel=0.15)
    assert after.threads - before.threads == 7


def test_children_that_come_and_go_stay_in_the_account(collector: Any, puppet: Puppet) -> None:
    before = collector.sample().cpu_seconds
    puppet.does("for _ in range(10): os.waitpid(child(lambda: burn(0.03)), 0)", "None")
    assert collector.sample().cpu_seconds - before >= 0.29


def test_a_container_that_is_gone_is_an_error(collector: Any, client: docker.APIClient, puppet: Puppet) -> None:
    collector.sample()
    client.kill(puppet.id)
    client.wait(puppet.id, timeout=20)
    with pytest.raises(MachineError, match="is gone"):
        collector.sample()
    with pytest.raises(MachineError, match="is gone"):
        container_collector(client, puppet.id)
    with pytest.raises(MachineError, match="is gone"):
        container_collector(client, "0" * 64)


def test_a_local_engine_is_read_by_its_files(local: None, client: docker.APIClient, puppet: Puppet) -> None:
    collector = container_collector(client, puppet.id)
    assert isinstance(collector, ContainerFiles)
    before = collector.sample()
    assert before.source in ("cgroup v1, /proc", "cgroup v2, /proc")
    assert before.processes == 1
    puppet.does("kept += [open(os.devnull) for _ in range(20)]", "for _ in range(50): time.sleep(0.001)", "None")
    after = collector.sample()
    assert after.descriptors is not None and before.descriptors is not None
    assert after.descriptors - before.descriptors == 20
    assert after.switches_voluntary is not None and before.switches_voluntary is not None
    assert after.switches_voluntary - before.switches_voluntary >= 50
    puppet.does("kept = [child(signal.pause) for _ in range(5)]", "None")
    assert collector.sample().processes == 6


def test_files_and_engine_agree(local: None, client: docker.APIClient, puppet: Puppet) -> None:
    puppet.does("block = bytearray(b'x') * 20_000_000", "burn(0.2)")
    near: Usage = container_collector(client, puppet.id).sample()
    far = EngineStats(client, puppet.id).sample()
    assert far.cpu_seconds == pytest.approx(near.cpu_seconds, rel=0.05)
    assert far.memory_bytes == pytest.approx(near.memory_bytes, rel=0.05)
    assert far.threads == near.threads
