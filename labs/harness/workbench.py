"""What the trials of a session share: a backend, the CPUs divided, fleets at the ready, servers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from labs.harness.availability import probe
from labs.harness.deploy.base import Backend
from labs.harness.fleets import Fleet, start_fleet
from labs.harness.model import Profile, ServerModel
from labs.harness.platform import cpu_plan, default_profile
from labs.harness.pool import ServerPool, Wanted, server_spec


class Workbench:
    """Where trials run. Fleets and what was learnt of a platform live through all of them, and through many labs."""

    def __init__(self, backend: Backend, requires: Iterable[str] = ()) -> None:
        self.backend = backend
        self._requires = set(requires)
        self.server_cpus, self.fleet_cpus = cpu_plan(backend.cpus)
        self.local = backend.manifest().get("local", "True") == "True"  # only an engine may be elsewhere
        """Whether the trials run on this machine's CPUs, so that other work on them can be seen from here."""
        self.servers = ServerPool(backend)
        self._fleets: list[Fleet] = []
        self._facts: dict[Profile, dict[str, Any]] = {}

    def fleets(self, count: int) -> list[Fleet]:
        """So many fleets, at the ready."""
        while len(self._fleets) < count:
            self._fleets.append(start_fleet(self.backend, default_profile(self.backend.name), self.fleet_cpus))
        return self._fleets[:count]

    def wanted(self, model: ServerModel, profile: Profile, fresh: bool = True) -> Wanted:
        """The server that a trial of `model` needs, on the server's CPUs."""
        return Wanted(server_spec(self.backend, model, profile, self.server_cpus), fresh)

    def facts(self, profile: Profile, requires: Iterable[str]) -> dict[str, Any]:
        """What the platform offers under `profile`, and which of `requires` it lacks. Raises as probe does."""
        wanted = set(requires)
        if not wanted <= self._requires:
            self._requires |= wanted
            self._facts.clear()
        if profile not in self._facts:
            self._facts[profile] = probe(self.backend, profile, self._requires)
        found = self._facts[profile]
        return {**found, "missing": {name: why for name, why in found["missing"].items() if name in wanted}}

    def close(self) -> None:
        self.servers.clear()
        for fleet in self._fleets:
            fleet.process.stop()


@contextmanager
def open_workbench(backend: Backend, requires: Iterable[str] = ()) -> Iterator[Workbench]:
    """A workbench on `backend`, which must have been entered; what it started has ended when the block ends.

    requires: what will be asked for sooner or later, so that a platform need be probed only once.
    """
    bench = Workbench(backend, requires)
    try:
        yield bench
    finally:
        bench.close()
