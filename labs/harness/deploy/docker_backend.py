"""Servers and fleets in containers: no privilege, no way out of the run's own network, nothing left behind."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import docker
import docker.errors
import requests.exceptions
from docker.types import LogConfig, Ulimit

from labs.harness.deploy import ownership
from labs.harness.deploy.base import Output, Spec
from labs.harness.deploy.engine import connect, explained, is_local
from labs.harness.deploy.leftovers import remove_all
from labs.harness.errors import InputError, MachineError
from labs.harness.images import FOLDER, USER, Image
from labs.harness.measure.base import Collector
from labs.harness.platform import available_cpus

OFFERED = ("linux", "poll-only", "select-only", "io-uring")
USER_FOLDER = "/work"
"""Where a folder of the user's appears in a container, read-only."""

TMPFS = {"/tmp": "rw,noexec,nosuid,nodev,size=16m"}
DESCRIPTOR_STEPS = (1_048_576, 524_288, 65_536, 20_000, 4_096, 1_024)
"""Limits to try, from above, where an engine does not give what is asked for."""

HANDS = 4
"""Threads that remove containers behind the runner's back."""

TRACER_CAPABILITIES = ("SYS_PTRACE", "KILL")
"""What a tracer needs to attach to another user's process, and to let it go again."""

EXIT_SECONDS = 2
STREAMS = {1: "stdout", 2: "stderr"}
IO_URING_PROFILE = Path(__file__).resolve().parents[3] / "images" / "seccomp" / "io-uring.json"


class Container:
    """A process in a container of its own."""

    def __init__(self, backend: DockerBackend, spec: Spec, container: str) -> None:
        self.spec, self.output, self.id, self.host = spec, Output(), container, ""
        self._backend, self._client = backend, backend.client
        self._code: int | None = None
        self._stopped = False
        attached = self._client.attach_socket(
            container, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1, "logs": 0})
        self._attached = attached  # keeps the response, and with it the connection, alive
        self._socket: socket.socket = getattr(attached, "_sock", attached)
        self._socket.settimeout(None)  # docker-py's time-out is for answers; a server may be silent for long

    def begin(self) -> None:
        """Starts it and learns its address. Raises what docker-py raises."""
        self._client.start(self.id)
        threading.Thread(target=self._read, daemon=True, name=f"{self.spec.role} output").start()
        networks = self._client.inspect_container(self.id)["NetworkSettings"]["Networks"]
        self.host = networks.get(self._backend.network, {}).get("IPAddress", "")  # a tracer has no network

    def _read(self) -> None:
        """Takes the attach stream apart: frames of (stream, 3 zero bytes, length in 4 bytes), then so many bytes."""
        buffered = bytearray()
        with contextlib.suppress(OSError, ValueError):
            while data := self._socket.recv(65536):
                buffered += data
                while len(buffered) >= 8 and len(buffered) >= (end := 8 + int.from_bytes(buffered[4:8], "big")):
                    self.output.feed(STREAMS.get(buffered[0], "stderr"), bytes(buffered[8:end]))
                    del buffered[:end]
        if not self._stopped:
            self._learn_its_end()
        self.output.end()

    def _learn_its_end(self) -> None:
        with contextlib.suppress(docker.errors.DockerException, requests.exceptions.RequestException, OSError):
            self._client.wait(self.id, timeout=EXIT_SECONDS)
            state = self._client.inspect_container(self.id)["State"]
            if not state["Running"]:
                self._code = state["ExitCode"]
            if state["OOMKilled"]:
                limit = f"{self.spec.memory_bytes / 2**20:.0f} MiB"
                self.output.feed("stderr", f"killed by the kernel: out of memory, the limit is {limit}\n".encode())

    def write(self, line: str) -> None:
        try:
            self._socket.sendall(line.encode() + b"\n")
        except (OSError, ValueError) as error:
            raise MachineError(f"the {self.spec.role} no longer reads its orders", str(error)) from None
        if self.output.ended:
            raise MachineError(f"the {self.spec.role} no longer reads its orders", "it has ended")

    def host_pid(self) -> int | None:
        """The number of its first process on this machine; None where the engine's processes are not seen here."""
        from labs.harness.measure import cgroup

        if sys.platform != "linux":
            return None
        with explained(f"the engine says nothing of the {self.spec.role}"):
            found = self._client.inspect_container(self.id)
        pid = int(found["State"]["Pid"])
        return pid if pid and cgroup.locate(pid, found["Id"]) else None

    def exit_code(self) -> int | None:
        if self._code is None and self.output.ended and not self._stopped:
            self._learn_its_end()  # its output was closed while it went on running
        return self._code

    def collector(self) -> Collector:
        from labs.harness.measure.containers import container_collector

        return container_collector(self._client, self.id)

    def stop(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        self._backend.discard(self.id)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(Exception):  # docker-py's kinds of socket fail in kinds of ways; it is over anyway
            self._attached.close()


class DockerBackend:
    """Backend of containers on one internal network. Everything it makes carries the run's labels."""

    name = "docker"
    listen_host = "0.0.0.0"

    def __init__(self, run_id: str, image: Image, client: docker.APIClient | None = None) -> None:
        self.client = client or connect()
        self.network = f"{ownership.PROJECT}-{run_id}"
        self._run_id, self._image = run_id, image
        self._labels = {ownership.PROJECT_LABEL: ownership.PROJECT, ownership.RUN_LABEL: run_id,
                        ownership.OWNER_LABEL: ownership.this_task()}
        with explained("the engine does not say what it is"):
            self._info = self.client.info()
            self._version = self.client.version()
        self._local = is_local(self.client, self._info)
        # An engine in a virtual machine or elsewhere has other CPUs than we have, often fewer.
        self.cpus = available_cpus() if self._local else tuple(range(self._info.get("NCPU", 0)))
        self._descriptors = self._most_descriptors()
        self._user = USER
        if self._local and os.getuid():  # so that /proc/<pid>/fd of its processes may be read from here
            self._user = f"{os.getuid()}:{os.getgid()}"
        self._hands = ThreadPoolExecutor(HANDS, thread_name_prefix="containers")
        self._notes: dict[str, str] = {}

    # --- the protocol ------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            with ownership.interrupts_held(), explained("cannot make the run's network"):
                self.client.create_network(self.network, driver="bridge", internal=True, labels=self._labels,
                                           check_duplicate=True)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        with ownership.interrupts_held():
            self._hands.shutdown(wait=True, cancel_futures=True)
            failures = remove_all(self.client, {"label": [f"{name}={self._labels[name]}" for name in (
                ownership.PROJECT_LABEL, ownership.RUN_LABEL)]})
        if failures and exc[:1] in ((), (None,)):
            raise MachineError("the run left something behind", "; ".join(failures), "invoke lab.clean")

    def start(self, spec: Spec) -> Container:
        if spec.profile not in OFFERED:
            raise InputError(f"profile {spec.profile} is not to be had in a container", "containers are Linux",
                             f"one of {', '.join(OFFERED)}, or --on native on that system")
        while True:
            descriptors = self._limit_for(spec)
            # Not to be interrupted: the engine would go on and make it, after everything else has been removed.
            with ownership.interrupts_held():
                container = self._create(spec, descriptors)
            with explained(f"cannot start the {spec.role}'s container"):
                try:
                    process = Container(self, spec, container)
                    process.begin()
                    return process
                except docker.errors.APIError as error:
                    self.discard(container)
                    if "rlimit" not in str(error) or not self._ask_for_fewer(descriptors):
                        raise

    def manifest(self) -> dict[str, str]:
        facts = {"engine": self._version.get("Version"), "api": self._version.get("ApiVersion"),
                 "system": self._info.get("OperatingSystem"), "kernel": self._info.get("KernelVersion"),
                 "storage": self._info.get("Driver"), "cgroup": self._info.get("CgroupVersion", "1"),
                 "local": self._local, "image": self._image.tag, "digest": self._image.id,
                 "base": self._image.provider, "python": self._image.python, "user": self._user}
        return {**{name: str(value) for name, value in facts.items()}, **self._notes}

    # --- containers --------------------------------------------------------------------------------------------------

    def discard(self, container: str) -> None:
        """Removes a container in the background."""
        with contextlib.suppress(RuntimeError):  # too late for that: leaving the backend removes it
            self._hands.submit(self._remove, container)

    def _remove(self, container: str) -> None:
        # What cannot be removed now is found by its label when the run ends, and complained about then.
        with contextlib.suppress(docker.errors.DockerException, requests.exceptions.RequestException, OSError):
            self.client.remove_container(container, force=True, v=True)

    def _create(self, spec: Spec, descriptors: int) -> str:
        folder = USER_FOLDER if spec.folder else FOLDER
        environment = {"POLLER_LAB_PROFILE": spec.profile, "POLLER_LAB_RUN": self._run_id, **dict(spec.environment)}
        target = spec.watches  # of a tracer, which shares its target's process ids and nothing else
        with explained(f"cannot create the {spec.role}'s container"):
            host = self.client.create_host_config(
                network_mode="none" if target else self.network, read_only=True, tmpfs=TMPFS, cap_drop=["ALL"],
                cap_add=list(TRACER_CAPABILITIES) if target else None,
                pid_mode=f"container:{target.id}" if isinstance(target, Container) else None,
                security_opt=["no-new-privileges", *self._seccomp(spec)],
                cpuset_cpus=",".join(map(str, spec.cpus)) or None,
                mem_limit=spec.memory_bytes, memswap_limit=spec.memory_bytes, pids_limit=spec.pids,
                ulimits=[Ulimit(name="nofile", soft=descriptors, hard=descriptors)], init=False,
                restart_policy={"Name": "no"},
                log_config=LogConfig(type="none"),  # the output is read by attaching; a log file would cost CPU
                binds=[f"{spec.folder.resolve()}:{USER_FOLDER}:ro"] if spec.folder else None)
            made = self.client.create_container(
                self._image.tag, ["python3", *spec.command], user="0:0" if target else self._user, working_dir=folder,
                host_config=host, environment=environment, stdin_open=True, detach=False,
                labels={**self._labels, ownership.ROLE_LABEL: spec.role},
                networking_config=None if target else self.client.create_networking_config(
                    {self.network: self.client.create_endpoint_config()}))  # type: ignore[arg-type]
        return str(made["Id"])

    def _seccomp(self, spec: Spec) -> list[str]:
        """The engine's own filter, but for io-uring on engines whose own one blocks it (from 25 on)."""
        major = str(self._version.get("Version", "")).partition(".")[0]
        if spec.profile != "io-uring" or (major.isdigit() and int(major) < 25):
            return []
        return ["seccomp=" + json.dumps(json.loads(IO_URING_PROFILE.read_text("utf-8")))]

    # --- descriptors -------------------------------------------------------------------------------------------------

    def _most_descriptors(self) -> int:
        """What to ask for at first: an engine on this machine gives no more than the machine's hard limit."""
        if self._local and sys.platform != "win32":
            import resource

            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            if hard != resource.RLIM_INFINITY:
                return hard
        return DESCRIPTOR_STEPS[0]

    def _limit_for(self, spec: Spec) -> int:
        if spec.descriptors is None or spec.descriptors <= self._descriptors:
            return spec.descriptors or self._descriptors
        self._notes["descriptors"] = f"{self._descriptors} instead of {spec.descriptors}: the hard limit"
        return self._descriptors

    def _ask_for_fewer(self, refused: int) -> bool:
        """After a refusal: lowers what is asked for; False if there is nothing lower."""
        lower = next((step for step in DESCRIPTOR_STEPS if step < refused), None)
        if lower and lower < self._descriptors:  # else another thread has met the same refusal
            self._descriptors = lower
            self._notes["descriptors"] = f"{lower}: the engine refused {refused}"
        return lower is not None
