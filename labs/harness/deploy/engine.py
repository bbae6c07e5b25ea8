"""Finding the container engine, and saying in one sentence what is wrong with it."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import docker.errors
import requests.exceptions
from docker.utils import kwargs_from_env

from labs.harness.errors import MachineError

MEND = {
    "linux": "start Docker (sudo systemctl start docker) and let yourself use it (sudo usermod -aG docker $USER, then "
             "log in again), or run natively: --on native",
    "darwin": "start Docker Desktop, colima or OrbStack, or run natively: --on native",
    "win32": "start Docker Desktop, set to Linux containers, or run natively: --on native",
}
ANSWER_SECONDS = 2
CALL_SECONDS = 60


def addresses() -> list[str]:
    """Where an engine may listen, likeliest first: DOCKER_HOST alone if set, the current context, the usual sockets."""
    if host := os.environ.get("DOCKER_HOST"):
        return [host]
    found: list[str] = []
    try:
        context = docker.ContextAPI.get_current_context()
        if context is not None and context.Name != "default" and context.Host:
            found.append(context.Host)
    except (docker.errors.DockerException, OSError, ValueError, AttributeError, KeyError):
        pass  # a broken context file is the user's docker client's business; the usual sockets may still answer
    if sys.platform == "win32":
        return [*found, "npipe:////./pipe/docker_engine", "npipe:////./pipe/dockerDesktopLinuxEngine"]
    home = Path.home()
    usual = [Path("/var/run/docker.sock"), Path(os.environ.get("XDG_RUNTIME_DIR", "/nonexistent"), "docker.sock"),
             home / ".docker/run/docker.sock", home / ".docker/desktop/docker.sock",
             home / ".colima/default/docker.sock", home / ".orbstack/run/docker.sock", home / ".rd/docker.sock"]
    return [*found, *(f"unix://{socket}" for socket in usual if os.access(socket, os.F_OK))]


def connect(answer_seconds: int = ANSWER_SECONDS, call_seconds: int = CALL_SECONDS) -> docker.APIClient:
    """A client of the first engine that answers and runs Linux containers.

    answer_seconds: how long each address may take to answer; call_seconds: how long any later call may.
    Raises MachineError: no engine, one that does not answer or refuses us, one for Windows containers.
    """
    whys: list[str] = []
    for address in addresses():
        try:
            options = kwargs_from_env() if os.environ.get("DOCKER_HOST") else {"base_url": address}
            client = docker.APIClient(version="auto", timeout=answer_seconds, **options)
            system = str(client.version().get("Os", "linux"))
        except (docker.errors.DockerException, requests.exceptions.RequestException, OSError, ValueError) as error:
            whys.append(f"{address}: {_shorter(error)}")
            continue
        if system != "linux":
            whys.append(f"{address}: runs {system} containers, not Linux containers")
            client.close()
            continue
        client.timeout = call_seconds
        return client
    raise MachineError("no container engine answers", "; ".join(whys) or "there is no engine's socket on this machine",
                       MEND.get(sys.platform, MEND["linux"]))


def is_local(client: docker.APIClient, info: dict[str, Any]) -> bool:
    """Whether the engine shares this machine's kernel, so that its processes can be seen from here."""
    return (client.base_url.startswith(("http+docker://", "http+unix://")) and sys.platform == "linux"
            and info.get("KernelVersion") == platform.release() and info.get("NCPU") == os.cpu_count())


def _shorter(error: BaseException) -> str:
    text = str(error)
    for sign, meaning in (("Permission denied", "permission denied"), ("PermissionError", "permission denied"),
                          ("Connection refused", "connection refused"), ("timed out", "no answer in time"),
                          ("No such file", "no such socket")):
        if sign in text:
            return meaning
    return text.splitlines()[0][:200] if text else type(error).__name__


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turns whatever an engine call may raise into a MachineError that begins with `what`."""
    try:
        yield
    except docker.errors.APIError as error:
        why = str(error.explanation or error).strip()
        mend = ""
        if "no space left" in why:
            mend = "make room on the engine's disk (docker system df shows what takes it)"
        elif "address pool" in why:
            mend = "too many networks: invoke lab.clean removes those that killed runs left"
        raise MachineError(what, why, mend) from error
    except (docker.errors.DockerException, requests.exceptions.RequestException, OSError) as error:
        raise MachineError(what, f"the engine stopped answering: {_shorter(error)}",
                           MEND.get(sys.platform, MEND["linux"])) from error
