"""Every message a user sees when something goes wrong.

One kind of error carries three sentences: what happened, why, and what to try. Whoever raises it
decides whose mistake it was by choosing the class, and the class decides the exit code:

    0  done
    1  a claim or a check failed where the user asked for that to fail   (ClaimFailed)
    2  usage or bad input                                                 (InputError)
    3  the machine, Docker or a server is at fault                        (MachineError)

Anything that is not a LabError is a bug of ours and keeps its traceback.
"""

from __future__ import annotations


class LabError(Exception):
    """A failure that has been understood. Shown without a traceback.

    what: one clause, the thing that failed. why: the cause as far as we know it ("" if the what says it).
    try_this: what the user can do, a command where there is one ("" if nothing can be done).
    """

    code = 3

    def __init__(self, what: str, why: str = "", try_this: str = "") -> None:
        super().__init__(what, why, try_this)
        self.what, self.why, self.try_this = what, why, try_this

    def __str__(self) -> str:
        lines = [self.what]
        if self.why:
            lines.append(f"  why: {self.why}")
        if self.try_this:
            lines.append(f"  try: {self.try_this}")
        return "\n".join(lines)


class InputError(LabError):
    """The user's words, a lab.yaml or another file we were given is wrong."""

    code = 2


class MachineError(LabError):
    """The machine, the container engine or a process on it failed us."""

    code = 3


class Unavailable(MachineError):
    """Something that this platform does not offer; what needs it is left out, and the run goes on."""


class ServerFailed(MachineError):
    """A server to be measured crashed, hung or answered wrongly; `log` holds its last lines."""

    def __init__(self, what: str, why: str = "", try_this: str = "", log: tuple[str, ...] = ()) -> None:
        super().__init__(what, why, try_this)
        self.log = log

    def __str__(self) -> str:
        tail = "".join(f"\n  | {line}" for line in self.log)
        return super().__str__() + (f"\n  its last lines:{tail}" if tail else "")


class ClaimFailed(LabError):
    """Raised after a complete run when --fail-on names a verdict that occurred."""

    code = 1
