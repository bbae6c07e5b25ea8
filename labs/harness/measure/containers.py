"""Chooses how a container is measured: by this machine's own files where the engine is local, else by the engine."""

from __future__ import annotations

import sys
import time

import docker
import docker.errors
import requests.exceptions

from labs.harness.errors import MachineError
from labs.harness.measure import cgroup, procfs
from labs.harness.measure.base import Collector
from labs.harness.measure.engine import EngineStats, container_gone
from labs.harness.measure.processes import Looker
from labs.harness.model import Usage


def container_collector(client: docker.APIClient, container_id: str) -> Collector:
    """The best collector for a running container. Raises MachineError where it does not run."""
    try:
        inspected = client.inspect_container(container_id)
    except docker.errors.NotFound:
        raise container_gone(container_id, "the engine knows no such container") from None
    except (docker.errors.DockerException, requests.exceptions.RequestException, OSError) as error:
        raise MachineError(f"the engine says nothing of container {container_id[:12]}", str(error)) from error
    if not inspected["State"]["Running"]:
        raise container_gone(container_id, "it does not run")
    full_id: str = inspected["Id"]
    group = cgroup.locate(inspected["State"]["Pid"], full_id) if sys.platform == "linux" else None
    return ContainerFiles(full_id, group) if group else EngineStats(client, full_id)


class ContainerFiles:
    """Collector by the container's control group, and /proc for what that does not count.

    CPU advances in timer ticks (1 to 10 ms) while a process runs. Context switches of threads that lived between two
    looks are not seen. Descriptors are None where the container's user is another than ours and we are not root.
    """

    def __init__(self, container_id: str, group: cgroup.Group) -> None:
        self._id, self._group = container_id, group
        self._looker = Looker()
        self._step = procfs.running_step()

    def sample(self) -> Usage:
        group, at = self._group, time.monotonic()
        try:
            cpu = group.cpu()
            processes = group.processes()
            if not processes:  # ended, and the engine has not yet removed its group
                raise container_gone(self._id)
            memory, threads = group.memory_bytes(), group.threads()
        except OSError:
            raise container_gone(self._id) from None
        gauges, (voluntary, involuntary) = self._looker.look(processes, memory=False)
        return Usage(
            at_seconds=at, cpu_seconds=cpu.total, cpu_user_seconds=cpu.user, cpu_system_seconds=cpu.system,
            cpu_resolution_seconds=self._step, memory_bytes=memory, processes=len(processes), threads=threads,
            switches_voluntary=voluntary, switches_involuntary=involuntary, descriptors=gauges.descriptors,
            source=f"{group.version}, /proc")
