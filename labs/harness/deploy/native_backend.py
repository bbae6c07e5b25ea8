"""Servers and fleets as plain processes of this machine: what Windows, macOS and machines without an engine use."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Self

import psutil

from labs.harness.deploy.base import Output, Spec
from labs.harness.deploy.ownership import OWNER_VARIABLE, RUN_VARIABLE, interrupts_held, this_task
from labs.harness.errors import InputError, MachineError
from labs.harness.measure.base import Collector
from labs.harness.model import Profile
from labs.harness.platform import available_cpus

ROOT = Path(__file__).resolve().parents[3]
PROFILES = ROOT / "images" / "profiles"

OFFERED: dict[str, tuple[Profile, ...]] = {
    "linux": ("linux", "poll-only", "select-only", "io-uring"),
    "darwin": ("macos", "select-only"),
    "win32": ("windows", "select-only"),
}
"""sys.platform → profiles that a native process can have there."""

REAP_SECONDS = 5.0


class NativeProcess:
    """A process of this machine, the leader of a session (Unix) or group (Windows) of its own."""

    host = "127.0.0.1"

    def __init__(self, spec: Spec, process: subprocess.Popen[bytes]) -> None:
        self.spec, self.output, self.pid = spec, Output(), process.pid
        self._process = process
        self._stopped = False
        assert process.stdout and process.stderr
        pipes = {"stdout": process.stdout, "stderr": process.stderr}
        self._open_pipes = len(pipes)
        self._lock = threading.Lock()
        for name, pipe in pipes.items():
            threading.Thread(target=self._read, args=(name, pipe), daemon=True, name=f"{spec.role} {name}").start()

    def _read(self, name: str, pipe: IO[bytes]) -> None:
        with pipe:
            while data := os.read(pipe.fileno(), 65536):
                self.output.feed(name, data)
        with self._lock:
            self._open_pipes -= 1
            last = not self._open_pipes
        if last:
            self.output.end()

    def write(self, line: str) -> None:
        try:
            assert self._process.stdin
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except (OSError, ValueError) as error:
            raise MachineError(f"the {self.spec.role} no longer reads its orders", str(error)) from None

    def host_pid(self) -> int | None:
        """Its number on this machine."""
        return self.pid

    def exit_code(self) -> int | None:
        if self._process.returncode is None and hasattr(os, "waitid"):
            # Looks without reaping: as long as the zombie is there, its number and its group's are not given away.
            found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is None:
                return None
            return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
        return self._process.poll()

    def collector(self) -> Collector:
        from labs.harness.measure.processes import ProcessCollector

        return ProcessCollector(self.pid)

    def stop(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        if self._process.returncode is None:
            kill_tree(self.pid)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(REAP_SECONDS)
        with contextlib.suppress(OSError):
            assert self._process.stdin
            self._process.stdin.close()


def environment(profile: Profile, root: Path = ROOT) -> dict[str, str]:
    """What a child's environment must be for the project's modules to be found and `profile` to be put on."""
    paths = [str(root), str(PROFILES), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "POLLER_LAB_PROFILE": profile}


def kill_tree(pid: int) -> None:
    """Kills process `pid`, its process group if it leads one, and its descendants. Does not reap."""
    with contextlib.suppress(psutil.Error):
        # The parent first, so that it replaces nobody; what it made meanwhile is in its group.
        family = psutil.Process(pid).children(recursive=True)
        with contextlib.suppress(OSError):
            os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))  # on Windows SIGTERM is TerminateProcess
        for child in family:
            with contextlib.suppress(psutil.Error):
                child.kill()
    if hasattr(os, "killpg"):
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)


def marked_processes() -> list[tuple[psutil.Process, str, str]]:
    """Every process of this machine that a run made, as far as we may look: (process, run id, owner)."""
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
            if run := environment.get(RUN_VARIABLE):
                found.append((process, run, environment.get(OWNER_VARIABLE, "")))
        except (psutil.Error, OSError):
            continue
    return found


class NativeBackend:
    """Backend of plain processes. Memory and pids are not limited; CPUs only where the OS can (not on macOS)."""

    name = "native"
    listen_host = "127.0.0.1"

    def __init__(self, run_id: str, root: Path = ROOT) -> None:
        self._run_id, self._root = run_id, root
        self.cpus = available_cpus()
        self._owner = this_task()
        self._processes: list[NativeProcess] = []
        self._notes: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        with interrupts_held():
            for process in self._processes:
                process.stop()
            self._processes.clear()
            for process_found, run, _ in marked_processes():  # whoever left its family and group
                if run == self._run_id:
                    kill_tree(process_found.pid)

    def start(self, spec: Spec) -> NativeProcess:
        offered = OFFERED.get(sys.platform, ("linux",))
        if spec.profile not in offered:
            raise InputError(f"profile {spec.profile} is not to be had natively on {sys.platform}",
                             "a profile takes something away from the system that it runs on",
                             f"one of {', '.join(offered)}, or --on docker for the profiles of Linux")
        command = [sys.executable, *spec.command]
        if spec.descriptors is not None:
            command = self._limited(spec.descriptors, command)
        with interrupts_held():
            try:
                process = NativeProcess(spec, subprocess.Popen(
                    command, cwd=spec.folder or self._root, env=self._environment(spec),
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                    start_new_session=True,  # ignored on Windows
                    creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)))
            except OSError as error:
                raise MachineError(f"a {spec.role} process cannot be started", str(error)) from None
            self._processes.append(process)
        if spec.cpus:
            self._confine(process, spec.cpus)
        return process

    def _environment(self, spec: Spec) -> dict[str, str]:
        return {**environment(spec.profile, self._root), RUN_VARIABLE: self._run_id, OWNER_VARIABLE: self._owner,
                **dict(spec.environment)}

    def _limited(self, descriptors: int, command: list[str]) -> list[str]:
        """The command under a limit on open descriptors. By way of the shell: a preexec_fn is unsafe with threads."""
        shell = shutil.which("sh")
        if sys.platform == "win32" or not shell:
            self._notes["descriptors"] = f"{sys.platform} has no limit to set"
            return command
        import resource

        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        if hard != resource.RLIM_INFINITY and descriptors > hard:
            self._notes["descriptors"] = f"{hard} instead of {descriptors}: this machine's hard limit"
            descriptors = hard
        return [shell, "-c", 'ulimit -n "$0" && exec "$@"', str(descriptors), *command]

    def _confine(self, process: NativeProcess, cpus: tuple[int, ...]) -> None:
        try:
            handle = psutil.Process(process.pid)
            if not hasattr(handle, "cpu_affinity"):
                self._notes["cpus"] = f"not confined: {sys.platform} cannot"
                return
            handle.cpu_affinity(list(cpus))
        except psutil.NoSuchProcess:
            pass  # its end is seen by whoever reads its output
        except (psutil.Error, OSError, ValueError) as error:
            process.stop()
            raise MachineError(f"the {process.spec.role} cannot be confined to CPUs {cpus}", str(error)) from None

    def manifest(self) -> dict[str, str]:
        return {"executable": sys.executable, **self._notes}
