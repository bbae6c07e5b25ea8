"""An engine, the lab image and a backend for tests that need containers. Without an engine they are skipped."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import docker
import pytest

from labs.harness import images
from labs.harness.deploy.docker_backend import DockerBackend
from labs.harness.deploy.engine import connect
from labs.harness.errors import MachineError


@pytest.fixture(scope="session")
def client() -> docker.APIClient:
    try:
        return connect()
    except MachineError as error:
        pytest.skip(f"{error.what}: {error.why}")


@pytest.fixture(scope="session")
def image(client: docker.APIClient) -> images.Image:
    return images.ensure(client)


@pytest.fixture
def run() -> str:
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def backend(client: docker.APIClient, image: images.Image, run: str) -> Iterator[DockerBackend]:
    with DockerBackend(run, image, client) as opened:
        yield opened
    assert of_run(client, run) == []


def of_run(client: docker.APIClient, run: str) -> list[str]:
    """Names of the containers and networks that carry the run's label."""
    mine = {"label": f"poller-lab.run={run}"}
    return ([name for container in client.containers(all=True, filters=mine) for name in container["Names"]]
            + [network["Name"] for network in client.networks(filters=mine)])
