"""Whose a process, container or network is: the marks that everything a run makes carries, and how they are read.

The owner is the task that made it. A thing whose owner is gone is a leftover; nothing else is ever removed.
"""

from __future__ import annotations

import os
import platform
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import psutil

PROJECT = "poller-lab"
PROJECT_LABEL, RUN_LABEL = "poller-lab.project", "poller-lab.run"
ROLE_LABEL, OWNER_LABEL = "poller-lab.role", "poller-lab.owner"
RUN_VARIABLE, OWNER_VARIABLE = "POLLER_LAB_RUN", "POLLER_LAB_OWNER"
"""The same marks on a native process, in its environment."""

INTERRUPT_PATIENCE_SECONDS = 30.0


def _start_of(pid: int) -> str:
    """When process `pid` started, in a form that only this process has. Raises psutil.Error where there is none."""
    if os.path.exists("/proc/self/stat"):  # noqa: PTH110 - ticks since boot: no change of the clock moves them
        try:
            return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[19]
        except (OSError, IndexError):
            raise psutil.NoSuchProcess(pid) from None
    return str(round(psutil.Process(pid).create_time()))


def this_task() -> str:
    """The mark of this process as an owner: "<pid>:<start>@<host>"."""
    return f"{os.getpid()}:{_start_of(os.getpid())}@{platform.node()}"


def is_gone(owner: str) -> bool:
    """True where the owner has ended. An owner on another host (a shared engine) can't be seen: it counts as alive."""
    who, _, host = owner.partition("@")
    pid, _, start = who.partition(":")
    if host != platform.node() or not pid.isdigit():
        return False
    try:
        if psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE:
            return True
        now = _start_of(int(pid))
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False
    # Where the start is a time of day, it may have been rounded differently.
    return now != start if os.path.exists("/proc/self/stat") else abs(int(now) - int(start)) > 2  # noqa: PTH110


@contextmanager
def interrupts_held(seconds: float = INTERRUPT_PATIENCE_SECONDS) -> Iterator[None]:
    """Puts a Ctrl-C off until the block is done, so that nothing is made without being noted down.

    After `seconds` it gets through at once. Does nothing outside the main thread, where no Ctrl-C arrives.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    until = time.monotonic() + seconds
    arrived = False

    def hold(number: int, frame: FrameType | None) -> None:
        nonlocal arrived
        arrived = True
        if time.monotonic() > until:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.default_int_handler)
    if arrived:
        if callable(before):
            before(signal.SIGINT, None)
        elif before == signal.SIG_DFL:
            raise KeyboardInterrupt
