"""The doctor's look at containers: the engine, the image, and real containers under the limits of a run."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from typing import Any

from labs.harness import images
from labs.harness.deploy.base import Backend, Deadline, Process, Spec
from labs.harness.deploy.docker_backend import DockerBackend
from labs.harness.deploy.engine import addresses, connect
from labs.harness.errors import LabError, MachineError
from labs.harness.finding import Finding
from labs.harness.model import Profile

ANSWER_SECONDS = 20.0
CROWD_DESCRIPTORS = 10_100

PROFILES: tuple[Profile, ...] = ("linux", "poll-only", "select-only", "io-uring")

SELECTORS: dict[str, str] = {"poll-only": "PollSelector", "select-only": "SelectSelector"}
"""Profile → what selectors.DefaultSelector must be under it."""

SERVER = ("-m", "servers.blocking.blocking_server", "--host", "0.0.0.0", "--port", "0")

CLIENT = """
import json, os, resource, socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5) as server:
    server.sendall(b"ping")
    answer = server.recv(64).decode()
status = dict(line.rstrip().split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
try:
    open("/doctor", "w").close()
    root = "writable"
except OSError as error:
    root = error.strerror
print(json.dumps({"answer": answer, "capabilities": int(status["CapEff"], 16), "user": os.getuid(), "root": root,
                  "no-new-privileges": status["NoNewPrivs"] == "1",
                  "descriptors": resource.getrlimit(resource.RLIMIT_NOFILE)[1]}))
"""
"""Runs in a container beside the server: asks it, and looks at what it may do itself."""


def answer(process: Process) -> dict[str, Any]:
    """The one line of JSON that a process prints. Raises MachineError where it ends, or is silent for too long."""
    deadline = Deadline(ANSWER_SECONDS)
    try:
        line = process.output.readline(deadline.left())
    except TimeoutError:
        raise MachineError(f"the {process.spec.role} said nothing for {ANSWER_SECONDS:g} s") from None
    if line is None:
        raise MachineError(f"the {process.spec.role} ended without an answer", " ".join(process.output.tail()[-3:]))
    found: dict[str, Any] = json.loads(line)
    return found


def probe(backend: Backend, profile: Profile) -> dict[str, Any]:
    """What the platform offers to a process of the backend's under `profile`. Raises MachineError."""
    process = backend.start(_probe_spec(profile))
    try:
        return answer(process)
    finally:
        process.stop()


def _probe_spec(profile: Profile) -> Spec:
    return Spec("probe", ("-m", "servers.probe"), profile)


def examine() -> Iterator[Finding]:
    """Everything about containers; ends early where the next step has nothing to stand on."""
    if not (shutil.which("docker") or os.environ.get("DOCKER_HOST") or (sys.platform != "win32" and addresses())):
        yield Finding("container engine", None, "none installed: labs run natively")
        return
    try:
        client = connect()
    except MachineError as error:
        yield Finding("container engine", False, f"{error.what}: {error.why}", error.try_this)
        return
    version, info = client.version(), client.info()
    yield Finding("container engine", True, f"{version.get('Version')}, API {version.get('ApiVersion')}, "
                  f"cgroup v{info.get('CgroupVersion', '1')}, storage {info.get('Driver')}")
    try:
        image = images.ensure(client)
    except LabError as error:
        yield Finding("lab image", False, f"{error.what}: {error.why}", error.try_this)
        return
    yield Finding("lab image", True, f"{image.tag}, Python {image.python} from {image.provider}")
    try:
        with DockerBackend(f"doctor-{secrets.token_hex(4)}", image, client) as backend:
            yield from _run_containers(backend)
    except LabError as error:
        yield Finding("containers", False, f"{error.what}: {error.why}", error.try_this or "invoke lab.clean")


def _run_containers(backend: DockerBackend) -> Iterator[Finding]:
    server_spec = Spec("server", SERVER, "linux")
    server = backend.start(server_spec)
    try:
        ready = server.output.readline(ANSWER_SECONDS)
        port = (ready or "").split()[-1:]
        if not (ready or "").startswith("READY"):
            raise MachineError("the server in the container did not start", " ".join(server.output.tail()[-3:]))
        client = backend.start(Spec("fleet", ("-c", CLIENT, server.host, *port), "linux"))
        try:
            yield from judge_container(answer(client))
        finally:
            client.stop()
        usage = server.collector().sample()
        yield Finding("container's figures", True, f"from {usage.source}", "" if usage.descriptors is not None else
                      "descriptors and context switches are seen on a local engine only")
    except TimeoutError:
        raise MachineError("the server in the container was not ready in time") from None
    finally:
        server.stop()
    for profile in PROFILES:
        facts = probe(backend, profile)
        if profile == "io-uring":
            yield Finding("container io_uring", True if facts["io-uring"] else None,
                          "works" if facts["io-uring"] else str(facts["io-uring-why"]))
            continue
        selector = str(facts["default-selector"])
        expected = SELECTORS.get(profile, "EpollSelector")
        ok = selector == expected
        yield Finding(f"container, profile {profile}", ok, f"selectors.DefaultSelector is {selector}",
                      "" if ok else "the engine lets no seccomp filter through: update it")


def judge_container(seen: dict[str, Any]) -> Iterator[Finding]:
    """What CLIENT found, against what a run relies on."""
    echoed = seen["answer"] == "PING"
    saw = "a server started and answered another container" if echoed else f"'ping' was answered {seen['answer']!r}"
    yield Finding("container", echoed, saw, "" if echoed else "invoke image.build --force")
    loose = [what for what, wrong in (
        ("capabilities", seen["capabilities"] != 0), ("new privileges", not seen["no-new-privileges"]),
        ("a writable root", seen["root"] == "writable")) if wrong]
    yield Finding("container's confinement", not loose, f"it has {', '.join(loose)}" if loose else
                  f"no capabilities, no new privileges, read-only root, user {seen['user']}",
                  "update the container engine: it ignores what it is asked" if loose else "")
    enough = seen["descriptors"] >= CROWD_DESCRIPTORS
    yield Finding("container's descriptors", enough, f"{seen['descriptors']:,}", "" if enough else
                  "raise the engine's own limit: LimitNOFILE=1048576 for its service, then restart it")
