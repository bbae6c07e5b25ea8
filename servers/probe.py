"""Prints what the platform offers to this process, as one line of JSON.

    python -m servers.probe [--requires '["select.epoll"]']

Every fact is found by trying, in the process that asks: a profile, a container or an engine's filter
shows in the answer. Names are those of lab.yaml's `fact:`.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import json
import os
import platform
import select
import selectors
import signal
import socket
import sys
from typing import Any

from servers.contract import missing, offered

IO_URING_SETUP = 425
"""The system call's number on every architecture (the tables have been common since Linux 5.1)."""


TAKEN_AWAY = {"poll-only": ("select.epoll",), "select-only": ("select.epoll", "select.poll")}
"""Profile → names that Linux has and it has not."""


def asyncio_loop() -> str:
    """The class of asyncio's default event loop, by its public name: "SelectorEventLoop", "ProactorEventLoop"."""
    loop = asyncio.new_event_loop()
    try:
        return "SelectorEventLoop" if isinstance(loop, asyncio.SelectorEventLoop) else type(loop).__name__
    finally:
        loop.close()


def select_limit() -> str:
    """What stops select: "512 sockets in a list", "descriptor number 1023", found by running into it."""
    listener = socket.socket()
    try:
        select.select([listener] * 513, [], [], 0)
    except ValueError:
        return "512 sockets in a list"
    finally:
        listener.close()
    try:
        select.select([1024], [], [], 0)
    except ValueError:
        return "descriptor number 1023"
    except OSError:
        pass
    return "none found"


def descriptor_limit() -> int:
    """The hard limit on open descriptors; 0 where there is none."""
    try:
        import resource
    except ImportError:
        return 0
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 0 if hard == resource.RLIM_INFINITY else hard


def io_uring() -> str:
    """Why io_uring cannot be used, "" where it can."""
    if sys.platform != "linux":
        return f"{sys.platform} has none"
    import ctypes

    parameters = ctypes.create_string_buffer(120)  # struct io_uring_params, all zero
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    ring = libc.syscall(ctypes.c_long(IO_URING_SETUP), ctypes.c_uint(1), parameters)
    if ring >= 0:
        os.close(ring)
        return ""
    number = ctypes.get_errno()
    why = {errno.EPERM: "blocked by seccomp or by kernel.io_uring_disabled",
           errno.ENOSYS: "this kernel has none, or seccomp hides it"}.get(number, os.strerror(number))
    return f"{errno.errorcode.get(number, number)}: {why}"


def facts() -> dict[str, Any]:
    """Kebab-case name → bool, int or str."""
    why_no_io_uring = io_uring()
    found: dict[str, Any] = {
        "os": sys.platform,
        "os-release": platform.release(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "profile": os.environ.get("POLLER_LAB_PROFILE", ""),
        "select": hasattr(select, "select"),
        "poll": hasattr(select, "poll"),
        "epoll": offered("select.epoll"),
        "kqueue": hasattr(select, "kqueue"),
        "iocp": hasattr(asyncio, "ProactorEventLoop"),
        "default-selector": selectors.DefaultSelector.__name__,
        "asyncio-loop": asyncio_loop(),
        "select-limit": select_limit(),
        "descriptor-limit": descriptor_limit(),
        "fork": hasattr(os, "fork"),
        "reuse-port": hasattr(socket, "SO_REUSEPORT"),
        "sigio": False,
        "sigwaitinfo": hasattr(signal, "sigwaitinfo"),
        "io-uring": not why_no_io_uring,
    }
    if why_no_io_uring:
        found["io-uring-why"] = why_no_io_uring
    try:
        import fcntl
    except ImportError:
        return found
    found["sigio"] = hasattr(os, "O_ASYNC") and hasattr(fcntl, "F_SETSIG")
    return found


def why_missing(names: str) -> str:
    """One clause: why none of `names`, as in REQUIRES, is to be had by this process."""
    profile = os.environ.get("POLLER_LAB_PROFILE", "")
    if names.startswith("select.") and profile in ("poll-only", "select-only"):
        return f"profile {profile} takes {names} away"
    if names == "servers.asynchronous.ring.IO_URING":
        return f"io_uring: {io_uring() or 'this kernel or this architecture lacks what the ring needs'}"
    if all(name.partition(".")[0] in sys.stdlib_module_names for name in names.split(" or ")):
        return f"{sys.platform} has no {names}"
    packages = dict.fromkeys(name.partition(".")[0] for name in names.split(" or "))
    return f"the package {' or '.join(packages)} is not installed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requires", default="[]", type=json.loads, metavar="JSON",
                        help="a list of names as in REQUIRES; those that are missing are told, with the reason")
    requires = parser.parse_args().requires
    lacking = missing(requires)
    print(json.dumps({**facts(), "missing": {name: why_missing(name) for name in lacking}}))


if __name__ == "__main__":
    main()
