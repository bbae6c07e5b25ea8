"""What the fleet asks of the operating system, with the differences between systems kept here."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import sys

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

RESET_ON_CLOSE = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
"""For SO_LINGER: close with a reset."""


def name_of(error: OSError) -> str:
    """The class of an error, and its symbol where the class says nothing: "OSError EADDRNOTAVAIL"."""
    name = type(error).__name__
    return f"{name} {errno.errorcode.get(error.errno or 0, error.errno)}" if name == "OSError" else name


def cpu_times() -> tuple[float, float]:
    """(user, system) seconds of this process: to the microsecond on Unix, in steps of 15.6 ms on Windows."""
    if resource:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime, usage.ru_stime
    times = os.times()
    return times.user, times.system


def cpus() -> int:
    """CPUs that this process may use."""
    try:
        return len(os.sched_getaffinity(0))  # type: ignore[attr-defined,unused-ignore]
    except AttributeError:
        return os.cpu_count() or 1


def raise_descriptor_limit() -> int:
    """Raises the soft descriptor limit to the hard one, for the workers too; returns it. 0: no limit (Windows)."""
    if not resource:
        return 0
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = 1_048_576  # macOS names no hard limit, yet refuses to set none
    for wanted in (hard, 10_240):  # what macOS grants at the least
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            break
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
