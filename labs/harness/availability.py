"""What a platform offers to a process, and which server models can therefore run there."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from labs.harness.deploy.base import Backend, Deadline, Spec
from labs.harness.errors import MachineError
from labs.harness.model import Profile, ServerModel

PROBE_SECONDS = 20.0

MENDS = {
    "select.epoll": "run it on Linux, or with --on docker",
    "select.kqueue": "run it on macOS or BSD",
    "select.poll": "run it on Linux or macOS, or with --on docker",
    "os.fork": "run it on Linux or macOS, or with --on docker",
    "asyncio.ProactorEventLoop": "run it on Windows",
    "servers.asynchronous.ring.IO_URING": "run it on Linux 6.1 or newer, with --profile io-uring in containers",
    "select.EPOLLEXCLUSIVE": "run it on Linux, or with --on docker",
    "socket.SO_REUSEPORT": "run it on Linux or macOS, or with --on docker",
    "signal.sigwaitinfo": "run it on Linux, or with --on docker",
    "signal.sigtimedwait": "run it on Linux, or with --on docker",
    "fcntl.F_SETSIG": "run it on Linux, or with --on docker",
}
"""What to do where a model's requirement is lacking; for a package the mend is to install it."""


def probe(backend: Backend, profile: Profile, requires: Iterable[str] = ()) -> dict[str, Any]:
    """What the platform offers to a process under `profile`; the facts are listed in servers/probe.py.

    Raises MachineError where the probe does not answer.
    """
    command = ("-m", "servers.probe", "--requires", json.dumps(sorted(set(requires))))
    process = backend.start(Spec("probe", command, profile))
    deadline = Deadline(PROBE_SECONDS)
    try:
        while (line := process.output.readline(deadline.left())) is not None:
            if line.startswith("{"):
                facts: dict[str, Any] = json.loads(line)
                return facts
        raise MachineError(f"the platform cannot be probed under profile {profile}", "\n".join(process.output.tail()))
    except TimeoutError:
        raise MachineError(f"the platform's probe did not answer within {PROBE_SECONDS:g} s",
                           "\n".join(process.output.tail())) from None
    finally:
        process.stop()


def why_unavailable(model: ServerModel, facts: dict[str, Any]) -> str | None:
    """Why `model` cannot run where `facts` were found, and what to do about it; None where it can."""
    missing: dict[str, str] = facts["missing"]
    reasons = []
    for name in model.requires:
        if name in missing:
            mend = MENDS.get(name.partition(" or ")[0]) or f"pip install {name.partition(' or ')[0]}"
            reasons.append(f"{missing[name]} ({mend})")
    return "; ".join(reasons) or None
