"""What killed runs left behind: found by the marks it carries, removed when its owner is gone. Never anything else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import docker
import docker.errors
import psutil
import requests.exceptions

from labs.harness.deploy import native_backend, ownership
from labs.harness.deploy.engine import connect
from labs.harness.errors import MachineError

OURS = {"label": [f"{ownership.PROJECT_LABEL}={ownership.PROJECT}", ownership.OWNER_LABEL]}
"""A filter of the engine's for what a run made. Images carry the first label only."""

GONE_SECONDS = 10.0
HANDS = 4
"""Things removed at a time."""

ENGINE_ERRORS = (docker.errors.DockerException, requests.exceptions.RequestException, OSError)


@dataclass(frozen=True)
class Leftover:
    """Something whose owner is gone (or, if asked for, not): what it is, whose it was, and how to remove it."""

    text: str
    run: str
    owner: str
    remove: Callable[[], None]


def find_leftovers(all_owners: bool = False, run: str | None = None) -> list[Leftover]:
    """Containers, then networks, then native processes that a task made which is gone.

    all_owners: also those of tasks that are still running, or that ran on another host. run: of that run only.
    """
    return [found for found in _everything()
            if run in (None, found.run) and (all_owners or ownership.is_gone(found.owner))]


def clean(all_owners: bool = False, run: str | None = None) -> list[str]:
    """Removes the leftovers; returns a line for each. Raises MachineError if some cannot be removed."""
    done, failures = [], []
    for found in find_leftovers(all_owners, run):
        try:
            found.remove()
            done.append(found.text)
        except (*ENGINE_ERRORS, psutil.Error) as error:
            failures.append(f"{found.text}: {error}")
    if failures:
        raise MachineError("not everything could be removed", "; ".join(failures),
                           "run invoke lab.clean again in a moment")
    return done


def _everything() -> Iterator[Leftover]:
    try:
        client = connect()
    except MachineError:
        client = None  # no engine, no containers
    if client:
        try:
            yield from _in_engine(client)
        except ENGINE_ERRORS as error:
            raise MachineError("the engine does not say what is left over", str(error)) from error
    for process, run, owner in native_backend.marked_processes():
        yield Leftover(f"process {process.pid} of run {run}", run, owner, partial(_kill, process))


def _in_engine(client: docker.APIClient) -> Iterator[Leftover]:
    containers = client.containers(all=True, filters=OURS)
    networks = client.networks(filters=OURS)
    kinds: tuple[tuple[str, list[dict[str, Any]], Callable[[docker.APIClient, str], None]], ...] = (
        ("container", containers, _remove_container), ("network", networks, _remove_network))
    for kind, things, remove in kinds:
        for thing in things:
            labels = thing["Labels"]
            owner, run = labels[ownership.OWNER_LABEL], labels.get(ownership.RUN_LABEL, "")
            if owner:  # empty: made by somebody else, of our image
                role = labels.get(ownership.ROLE_LABEL, "")
                text = " ".join(filter(None, (role, kind, thing["Id"][:12], f"of run {run}" if run else "")))
                yield Leftover(text, run, owner, partial(remove, client, thing["Id"]))


def _kill(process: psutil.Process) -> None:
    if process.is_running():  # and is still the same one
        native_backend.kill_tree(process.pid)
        psutil.wait_procs([process], GONE_SECONDS)


# --- removing by label, shared with the backend ---------------------------------------------------------------------


def remove_all(client: docker.APIClient, filters: dict[str, Any]) -> list[str]:
    """Removes the containers and then the networks that `filters` select, several at a time.

    Returns what could not be removed, a line each.
    """
    try:
        containers = [thing["Id"] for thing in client.containers(all=True, filters=filters)]
        failures = _remove_each(partial(_remove_container, client), containers)
        networks = [thing["Id"] for thing in client.networks(filters=filters)]
        return failures + _remove_each(partial(_remove_network, client), networks)
    except ENGINE_ERRORS as error:
        return [str(error)]


def _remove_each(remove: Callable[[str], None], things: list[str]) -> list[str]:
    def attempt(thing: str) -> str:
        try:
            remove(thing)
        except ENGINE_ERRORS as error:
            return f"{thing[:12]}: {error}"
        return ""

    if not things:
        return []
    with ThreadPoolExecutor(HANDS) as hands:
        return [failure for failure in hands.map(attempt, things) if failure]


def _remove_container(client: docker.APIClient, container: str) -> None:
    """Removes a container; one that is gone, or going because another removal is under way, is waited for."""
    until = time.monotonic() + GONE_SECONDS
    while True:
        try:
            client.remove_container(container, force=True, v=True)
            return
        except docker.errors.NotFound:
            return
        except docker.errors.APIError as error:
            if error.status_code != 409 or time.monotonic() > until:
                raise
            time.sleep(0.05)  # the engine tells of the end of somebody else's removal in no other way


def _remove_network(client: docker.APIClient, network: str) -> None:
    """Removes a network; one that is gone is fine. A container's end point may outlive it for a moment."""
    until = time.monotonic() + GONE_SECONDS
    while True:
        try:
            client.remove_network(network)
            return
        except docker.errors.NotFound:
            return
        except docker.errors.APIError as error:
            if "active endpoints" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.05)
