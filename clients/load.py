"""What a fleet does to a server, as data: connections, pacing, sizes. No I/O."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PROTOCOLS = ("tcp", "udp", "http")
MEBIBYTE = 1024 * 1024


class LoadError(ValueError):
    """A load that cannot be meant; the text says which key and what is allowed."""


@dataclass(frozen=True)
class Load:
    """One load. Sizes in bytes, times in seconds, rates per second over the whole fleet."""

    protocol: str = "tcp"
    connections: int = 50
    active: int | None = None
    """The first `active` connections work, the others are an idle crowd; None: all work."""
    message_bytes: int = 64
    rate: float | None = None
    """None: closed loop. A number: open loop, that many requests a second over all active connections."""
    think_seconds: float = 0.0
    """Closed loop: the pause between an answer and the next request."""
    requests_per_connection: int | None = None
    """Churn: after so many answers a connection closes and opens anew."""
    read_bytes_per_second: float | None = None
    """Slow reader; 0 never reads after the first answer."""
    send_bytes_per_second: float | None = None
    """Slow sender."""
    requests: int | None = None
    """So many requests in all, dealt to the active connections in turn; they start at "begin"."""
    pipeline: int = 1
    """Requests in flight on one connection."""
    greet: bool = True
    """Each connection asks once as it comes up: a server has accepted only those that it has answered."""
    settle_seconds: float = 0.3
    connect_seconds: float = 10.0
    workers: int | None = None
    timeout_seconds: float | None = None
    """No answer for so long: counted as "timeout" (None: 10 s); a datagram is lost then (None: 1 s)."""

    def __post_init__(self) -> None:
        def need(key: str, low: float, high: float, *, whole: bool = True, optional: bool = False) -> None:
            value = getattr(self, key)
            if value is None and optional:
                return
            kinds = (int,) if whole else (int, float)
            if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
                kind = "a whole number" if whole else "a number"
                null = " or null" if optional else ""
                raise LoadError(f"{key} must be {kind} from {low:,} to {high:,}{null}, not {value!r}")

        if self.protocol not in PROTOCOLS:
            raise LoadError(f"protocol must be one of {', '.join(PROTOCOLS)}, not {self.protocol!r}")
        if not isinstance(self.greet, bool):
            raise LoadError(f"greet must be true or false, not {self.greet!r}")
        need("connections", 1, 1_000_000)
        need("active", 0, 1_000_000, optional=True)
        need("message_bytes", 1, 64 * MEBIBYTE)
        need("rate", 0.001, 1e7, whole=False, optional=True)
        need("think_seconds", 0, 3600, whole=False)
        need("requests_per_connection", 1, 10**9, optional=True)
        need("read_bytes_per_second", 0, 1e12, whole=False, optional=True)
        need("send_bytes_per_second", 0.01, 1e12, whole=False, optional=True)
        need("requests", 1, 10**12, optional=True)
        need("pipeline", 1, 10_000)
        need("settle_seconds", 0.01, 3600, whole=False)
        need("connect_seconds", 0.01, 3600, whole=False)
        need("workers", 1, 256, optional=True)
        need("timeout_seconds", 0.01, 86_400, whole=False, optional=True)
        if self.protocol == "udp" and self.slow:
            raise LoadError("read_bytes_per_second and send_bytes_per_second need a stream: protocol tcp or http")
        if self.requests and self.active == 0:
            raise LoadError("requests need an active connection, and active is 0")
        if self.active is not None and self.active > self.connections:
            raise LoadError(f"active ({self.active:,}) must not exceed connections ({self.connections:,})")

    @property
    def working(self) -> int:
        """How many connections send requests."""
        return self.connections if self.active is None else self.active

    @property
    def slow(self) -> bool:
        """Whether the connections read or send slowly."""
        return self.read_bytes_per_second is not None or self.send_bytes_per_second is not None

    @property
    def patience(self) -> float:
        """Seconds after which an answer is missed."""
        return self.timeout_seconds or (1.0 if self.protocol == "udp" else 10.0)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Load:
        """A load from JSON's keys. Raises LoadError for an unknown key or a value out of range."""
        if not isinstance(data, Mapping):
            raise LoadError(f"a load is a JSON object, not {data!r}")
        names = [field.name for field in dataclasses.fields(cls)]
        for key in data:
            if key not in names:
                near = difflib.get_close_matches(str(key), names, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"
                raise LoadError(f"unknown load key {key!r}: {hint}")
        return cls(**data)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object that from_dict reads back."""
        return dataclasses.asdict(self)

    def changed(self, **keys: Any) -> Load:
        """A copy with some keys replaced, validated anew."""
        return dataclasses.replace(self, **keys)

    def sized(self, **keys: Any) -> Load:
        """A copy with some keys replaced and not validated: a worker's share may rightly be nothing."""
        share = object.__new__(Load)
        share.__dict__.update(self.__dict__, **keys)
        return share

    def split(self, workers: int) -> list[Load]:
        """The shares of `workers` processes: connections, active, rate and requests add up to the whole."""
        shares = []
        first_active = 0
        for worker in range(workers):
            connections, active = (n // workers + (worker < n % workers) for n in (self.connections, self.working))
            rate = requests = None
            if self.rate is not None and active:
                rate = self.rate * active / self.working
            if self.requests is not None:
                each, left = divmod(self.requests, self.working or 1)
                requests = each * active + min(max(left - first_active, 0), active)
            first_active += active
            shares.append(self.sized(connections=connections, active=active, rate=rate, requests=requests))
        return shares
