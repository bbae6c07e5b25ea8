"""A container's figures from the engine's API: the one source that is there on every engine, near or far."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import docker
import docker.errors
import docker.utils
import requests.exceptions

from labs.harness.errors import MachineError
from labs.harness.model import Usage

ONE_SHOT_SINCE = "1.41"
"""The API version that can answer without waiting for a second look of its own."""


def container_gone(container_id: str, why: str = "it ended while it was being measured") -> MachineError:
    return MachineError(f"container {container_id[:12]} is gone", why)


def usage(stats: Mapping[str, Any], at_seconds: float) -> Usage | None:
    """What an answer of GET /containers/<id>/stats says; None for a container that does not run.

    Under cgroup v1 memory is in `stats.total_rss`, under v2 in `stats.anon`. CPU times are in nanoseconds, but v2
    counts microseconds below them. `pids_stats` counts threads, whatever its name says.
    """
    cpu = stats.get("cpu_stats", {}).get("cpu_usage", {})
    if not cpu.get("total_usage"):
        return None
    memory = stats.get("memory_stats", {}).get("stats") or {}
    v2 = "total_rss" not in memory and "anon" in memory
    return Usage(
        at_seconds=at_seconds, cpu_seconds=cpu["total_usage"] / 1e9,
        cpu_user_seconds=_seconds(cpu.get("usage_in_usermode")),
        cpu_system_seconds=_seconds(cpu.get("usage_in_kernelmode")),
        cpu_resolution_seconds=0.01,  # the tick of a kernel that may be another one's; 10 ms is the longest in use
        memory_bytes=memory.get("anon" if v2 else "total_rss"),
        threads=stats.get("pids_stats", {}).get("current"),
        source=f"engine API, cgroup {'v2' if v2 else 'v1'}")


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e9


class EngineStats:
    """Collector by the engine's statistics.

    Slow: engine 20.10 answers at its own next tick, once a second (measured 0.6 to 1.0 s), newer ones in some
    milliseconds. at_seconds is when the answer came.
    """

    def __init__(self, client: docker.APIClient, container_id: str) -> None:
        self._client, self._id = client, container_id
        older = docker.utils.version_lt(client.api_version, ONE_SHOT_SINCE)
        self._one_shot = None if older else True

    def sample(self) -> Usage:
        try:
            stats = self._client.stats(self._id, stream=False, one_shot=self._one_shot)
        except docker.errors.NotFound:
            raise container_gone(self._id) from None
        except (docker.errors.DockerException, requests.exceptions.RequestException, OSError) as error:
            raise MachineError(f"the engine does not say what container {self._id[:12]} uses", str(error)) from error
        found = usage(stats, time.monotonic())
        if found is None:
            raise container_gone(self._id)
        return found
