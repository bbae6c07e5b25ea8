"""What the doctor says of one thing it has tried."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing tried. ok: True, False, or None where it does not apply here or is not needed."""

    name: str
    ok: bool | None
    saw: str
    """What was seen, in one line."""
    mend: str = ""
    """What to do about it: a command where there is one."""


Check = Callable[[], Iterator[Finding]]


def guarded(name: str, check: Check) -> Iterator[Finding]:
    """The findings of a check; if it breaks, that is a finding as well, and the next check goes on."""
    try:
        yield from check()
    except Exception as error:  # a doctor that falls over its patient is no help
        yield Finding(name, False, f"could not be tried: {type(error).__name__}: {error}".replace("\n", " "))


def by_system(linux: str, macos: str = "", windows: str = "") -> str:
    """The mend for the system this runs on."""
    return {"darwin": macos, "win32": windows}.get(sys.platform, linux)
