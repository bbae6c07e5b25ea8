"""Makes one result of what the workers counted."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

HOUR_US = 3_600_000_000
DIGITS = 3


def merged(parts: Iterable[Sequence[Sequence[int]]]) -> Counter[int]:
    """Adds up the {value: count} pairs of several workers."""
    total: Counter[int] = Counter()
    for pairs in parts:
        for value, count in pairs:
            total[value] += count
    return total


def distribution(counts: Counter[int]) -> dict[str, Any]:
    """Latencies {µs: count} as figures and as an encoded HdrHistogram (1 µs to 1 hour, 3 digits)."""
    from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]  # takes 50 ms to import

    histogram = HdrHistogram(1, HOUR_US, DIGITS)
    for value, count in counts.items():
        histogram.record_value(min(max(value, 1), HOUR_US), count)
    total = counts.total()
    figures: dict[str, Any] = {
        "count": total,
        "min_us": min(counts, default=0), "max_us": max(counts, default=0),
        "mean_us": round(sum(value * count for value, count in counts.items()) / total, 3) if total else 0,
    }
    for name, percentile in (("p50_us", 50), ("p90_us", 90), ("p99_us", 99), ("p999_us", 99.9)):
        figures[name] = histogram.get_value_at_percentile(percentile) if total else 0
    figures["hdr"] = histogram.encode().decode("ascii")
    return figures


def quantile(counts: Counter[int], share: float) -> int:
    """The smallest value that `share` of the counts do not exceed."""
    rank, seen = share * counts.total(), 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= rank:
            return value
    return 0


def result(parts: list[dict[str, Any]], own_cpu: tuple[float, float], rate: float | None, poller: str,
           notes: list[str]) -> dict[str, Any]:
    """The result event. parts: each worker's answer to "end"; own_cpu: the coordinator's (user, system) seconds."""
    seconds = statistics.fmean(part["seconds"] for part in parts)
    latency, uncorrected, lag = (merged(part[name] for part in parts) for name in ("latency", "uncorrected", "lag"))
    shares = sorted(share for part in parts for share in part["shares"])
    user = sum(part["user_seconds"] for part in parts) + own_cpu[0]
    system = sum(part["system_seconds"] for part in parts) + own_cpu[1]
    connections: dict[str, Any] = {
        name: sum(part["connections"][name] for part in parts)
        for name in ("asked", "connected", "served", "held", "opened", "lost")}
    connections["failed"] = added(part["connections"]["failed"] for part in parts)
    return {
        "event": "result", "seconds": seconds, "connections": connections, "requests": latency.total(),
        **{name: sum(part[name] for part in parts) for name in ("bytes_sent", "bytes_received", "wrong")},
        "first_wrong": next((part["first_wrong"] for part in parts if part["first_wrong"]), None),
        "errors": added(part["errors"] for part in parts),
        "datagrams": added(part["datagrams"] for part in parts) if parts[0]["datagrams"] else None,
        "latency": distribution(latency),
        "latency_uncorrected": distribution(uncorrected) if uncorrected else None,
        "served_share": {"min": shares[0], "median": statistics.median(shares), "max": shares[-1]} if shares
        else {"min": 0, "median": 0, "max": 0},
        "offered_rate": rate, "achieved_rate": latency.total() / seconds,
        "schedule_lag": {"p50_us": quantile(lag, 0.5), "p99_us": quantile(lag, 0.99), "max_us": max(lag)} if lag
        else None,
        "cpu": {"user_seconds": user, "system_seconds": system, "seconds": user + system,
                "busiest_worker_share": max((part["user_seconds"] + part["system_seconds"]) / part["seconds"]
                                            for part in parts)},
        "workers": len(parts), "poller": poller, "notes": notes,
    }


def added(parts: Iterable[dict[str, int]]) -> dict[str, int]:
    """Counts by name, summed."""
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(total)
