"""Which backend a run gets, and why."""

from __future__ import annotations

import sys
from typing import Literal

from labs.harness.errors import MachineError

On = Literal["auto", "docker", "native"]


def choose(on: On = "auto", answer_seconds: int = 2) -> tuple[Literal["docker", "native"], str]:
    """(backend, why in one line). Auto takes Docker where an engine for Linux containers answers in `answer_seconds`.

    Raises MachineError for "docker" where none does.
    """
    if on == "native":
        return "native", "native: asked for"
    from labs.harness.deploy.engine import connect  # docker-py costs 50 ms

    try:
        client = connect(answer_seconds)
    except MachineError as error:
        if on == "docker":
            raise
        return "native", f"native on {sys.platform}: {error.what} ({error.why})"
    version = client.version().get("Version", "?")
    client.close()
    asked = "asked for" if on == "docker" else "it answers"
    return "docker", f"docker: engine {version}, {asked}"
