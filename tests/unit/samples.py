"""Results as a run would find them, for tests of what is made of them."""

from __future__ import annotations

from typing import Any

from labs.harness.model import Cell, FleetResult, Latency, Machine, Result, Run, Timing, Trial, Usage


def usage(at: float = 0.0, cpu: float = 0.0, **more: Any) -> Usage:
    return Usage(at_seconds=at, cpu_seconds=cpu, **more)


def fleet(requests: int = 1000, seconds: float = 0.5, connections: dict[str, Any] | None = None,
          **more: Any) -> FleetResult:
    counts = {"asked": 50, "connected": 50, "served": 50, "held": 50, "opened": 0, "failed": {}, "lost": 0}
    return FleetResult(**{
        "seconds": seconds, "connections": counts | (connections or {}), "requests": requests,
        "bytes_sent": 64 * requests, "bytes_received": 64 * requests, "wrong": 0, "cpu": {"seconds": 0.1},
        "workers": 1, "poller": "epoll",
        "latency": Latency(count=requests, min_us=10, mean_us=30, p50_us=25, p90_us=40, p99_us=90, p999_us=200,
                           max_us=900, hdr=""),
        "served_share": {"min": 15, "median": 20, "max": 20}} | more)


def result(cell: Cell, repeat: int = 1, cpu: float = 0.05, requests: int = 1000, **more: Any) -> Result:
    """A window of half a second in which the server used `cpu` seconds, told to a microsecond."""
    fine = {"cpu_resolution_seconds": 1e-6}
    return Result(**{
        "trial": Trial(number=repeat, repeat=repeat, cell=cell), "started": "2026-01-31T12:00:00Z",
        "before": usage(memory_bytes=10_000_000, **fine), "begin": usage(1.0, 0.2, memory_bytes=10_500_000, **fine),
        "end": usage(1.5, 0.2 + cpu, memory_bytes=11_000_000, threads=3, processes=1, descriptors=55, **fine),
        "fleet": fleet(requests)} | more)


def machine(**more: Any) -> Machine:
    return Machine(**{
        "os": "Linux", "os_release": "6.1", "architecture": "x86_64", "python": "3.11.4", "cpu": "a CPU", "cpus": 2,
        "memory_bytes": 2**33, "descriptor_limit": 20_000, "backend": "native", "engine": {}} | more)


def run(name: str = "20260131T120000-select-1a2b", **more: Any) -> Run:
    return Run(**{
        "id": name, "lab": "select", "started": "2026-01-31T12:00:00Z", "profile": "linux", "backend_why": "asked for",
        "timing": Timing(), "machine": machine(), "planned": 2} | more)
