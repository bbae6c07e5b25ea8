"""What one worker counts between begin and end."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from typing import Any

from clients.system import cpu_times

DATAGRAMS = ("sent", "answered", "lost", "reordered", "duplicated", "late")


class Window:
    """Counters of one window. Latencies are {microseconds: how often}: cheaper than any list of samples."""

    def __init__(self) -> None:
        self.latency: defaultdict[int, int] = defaultdict(int)
        self.uncorrected: defaultdict[int, int] = defaultdict(int)
        self.lag: defaultdict[int, int] = defaultdict(int)
        self.sent = self.received = self.wrong = self.opened = 0
        self.first_wrong: str | None = None
        self.errors: Counter[str] = Counter()
        self.datagrams: Counter[str] = Counter()  # see clients/datagrams.py
        self.begun = time.perf_counter_ns()
        self.cpu = cpu_times()

    @property
    def requests(self) -> int:
        return sum(self.latency.values())

    def compact(self) -> None:
        """Bounds the memory of very scattered latencies, without loss for a histogram of three digits."""
        for name in ("latency", "uncorrected", "lag"):
            counts = getattr(self, name)
            if len(counts) > 20_000:
                merged: defaultdict[int, int] = defaultdict(int)
                for value, count in counts.items():
                    shift = max(0, value.bit_length() - 11)
                    merged[value >> shift << shift] += count
                setattr(self, name, merged)

    def close(self) -> dict[str, Any]:
        """The window as JSON data, up to now."""
        seconds = (time.perf_counter_ns() - self.begun) / 1e9
        user, system = (now - then for now, then in zip(cpu_times(), self.cpu, strict=True))
        self.compact()
        return {
            "seconds": seconds, "user_seconds": user, "system_seconds": system,
            "latency": list(self.latency.items()), "uncorrected": list(self.uncorrected.items()),
            "lag": list(self.lag.items()), "bytes_sent": self.sent, "bytes_received": self.received,
            "wrong": self.wrong, "first_wrong": self.first_wrong, "errors": dict(self.errors), "opened": self.opened,
        }
