"""Benchmarks of the lab itself: what orchestration costs, and what the fleet costs beside the server it measures."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.table import Table

from labs.harness.catalog import find_server
from labs.harness.events import Listener, Note
from labs.harness.metrics import METRICS
from labs.harness.model import Cell, Load, Result, Timing, Trial
from labs.harness.platform import default_profile
from labs.harness.report.tables import table
from labs.harness.session import new_id, open_backend
from labs.harness.trial import run_trial
from labs.harness.verdicts import number
from labs.harness.workbench import Workbench, open_workbench
from labs.harness.wrk import WrkSample, measure_wrk

FLEET_CONNECTIONS = (1, 50, 500, 1000)


def one_trial(bench: Workbench, server: str, name: str, load: Load, timing: Timing, repeat: int = 1) -> Result:
    """A trial outside any lab, on the backend's default profile."""
    profile = default_profile(bench.backend.name)
    trial = Trial(number=repeat, repeat=repeat, cell=Cell(server=server, load=name, profile=profile))
    return run_trial(bench, trial, find_server(server), profile, [load], timing)


# --- overhead --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Overhead:
    """Seconds beyond the planned warm-up and window, per trial."""

    backend: str
    per_trial: tuple[float, ...]
    preparing: float
    """Seconds spent ahead of the trials: until the fleet reported for duty."""

    @property
    def mean(self) -> float:
        """Servers start a few at a time, so that one trial waits for those of the next ones as well."""
        return statistics.fmean(self.per_trial)

    @property
    def spread(self) -> float:
        """What a trial costs when the preparation is shared out among all."""
        return (sum(self.per_trial) + self.preparing) / len(self.per_trial)


def overhead(on: str, trials: int, listen: Listener) -> Overhead:
    """Measures `trials` short trials of one server, as a lab would run them."""
    timing = Timing(warmup_seconds=0.1, window_seconds=0.2)
    with open_backend(on, new_id("bench"), listen) as (backend, _), open_workbench(backend) as bench:
        start = time.perf_counter()
        bench.fleets(1)
        bench.servers.plan([bench.wanted(find_server("select"), default_profile(backend.name))] * trials)
        preparing = time.perf_counter() - start
        found = []
        for count in range(trials):
            found.append(one_trial(bench, "select", "ten", Load(connections=10), timing, count + 1).overhead_seconds)
            listen(Note(f"trial {count + 1} of {trials}: {found[-1]:.3f} s"))
    return Overhead(backend.name, tuple(found), preparing)


def overhead_table(found: Overhead) -> Table:
    made = table("orchestration overhead", "seconds per trial>")
    made.add_row(f"mean of {len(found.per_trial)} trials on {found.backend}", f"{found.mean:.3f}")
    made.add_row("fastest", f"{min(found.per_trial):.3f}")
    made.add_row("slowest", f"{max(found.per_trial):.3f}")
    made.add_row(f"mean, with its share of {found.preparing:.2f} s of preparation", f"{found.spread:.3f}")
    return made


# --- fleet -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FleetCost:
    """CPU microseconds per request of the fleet, of the server and of wrk at one number of connections, per repeat."""

    connections: int
    fleet_us: tuple[float, ...]
    server_us: tuple[float, ...]
    requests_per_second: tuple[float, ...]
    wrk: tuple[WrkSample, ...] = ()
    limits: tuple[str, ...] = field(default=())
    """What else than the server may have set the pace, over all repeats."""


def fleet(on: str, repeats: int, listen: Listener) -> list[FleetCost]:
    """The fleet in a closed loop of 64 bytes against the epoll server, interleaved with wrk where it is installed."""
    timing = Timing(warmup_seconds=0.3, window_seconds=1.0)
    results: dict[int, list[Result]] = {count: [] for count in FLEET_CONNECTIONS}
    samples: dict[int, list[WrkSample]] = {count: [] for count in FLEET_CONNECTIONS}
    with open_backend(on, new_id("bench"), listen) as (backend, _), open_workbench(backend) as bench, \
            measure_wrk() as http:
        listen(Note(http.what if http else "wrk is not installed: the fleet is measured alone"))
        for repeat in range(repeats):
            for count in FLEET_CONNECTIONS:
                # One worker, as wrk gets one thread.
                load = Load(connections=count, workers=1)
                results[count].append(one_trial(bench, "epoll", str(count), load, timing, repeat + 1))
                if http:
                    samples[count].append(http.sample(count, timing.window_seconds))
                listen(Note(f"repeat {repeat + 1} of {repeats}: {count} connections"))
    return [_cost(count, results[count], samples[count]) for count in FLEET_CONNECTIONS]


def _cost(connections: int, results: list[Result], wrk: list[WrkSample]) -> FleetCost:
    def per_request() -> Iterator[float]:
        for result in results:
            assert result.fleet
            yield result.fleet.cpu["seconds"] * 1e6 / max(result.fleet.requests, 1)

    server = METRICS["cpu_us_per_request"]
    return FleetCost(
        connections, tuple(per_request()), tuple(server.of(result) or 0.0 for result in results),
        tuple(result.fleet.requests / result.fleet.seconds for result in results if result.fleet), tuple(wrk),
        tuple(dict.fromkeys(limit.partition(":")[0] for result in results for limit in result.limits)))


def fleet_table(found: list[FleetCost]) -> Table:
    made = table("connections>", "fleet µs>", "server µs>", "wrk µs>", "requests/s>", "set the pace")
    for cost in found:
        wrk = _median([sample.cpu_us_per_request for sample in cost.wrk])
        pace = f"{', '.join(cost.limits)}: not ranked" if cost.limits else "the server"
        made.add_row(f"{cost.connections:,}", _median(cost.fleet_us), _median(cost.server_us), wrk,
                     _median(cost.requests_per_second), pace)
    made.caption = "CPU time (user and system) per request, medians; 64 bytes, closed loop, one worker"
    return made


def _median(values: tuple[float, ...] | list[float]) -> str:
    return number(statistics.median(values)) if values else "-"
