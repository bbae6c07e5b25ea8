"""What the conformance suite of the server models needs: the models, their exceptions by nature, servers and clients.

The suite talks to a server by its address. Who started it is the starter's affair: a function
`start(model, arguments=(), limits=Limits()) -> Server`. `start_natively` is the one for plain processes.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psutil
import pytest
from talking import (  # noqa: F401 - the suite's tests take everything from here
    DEADLINE,
    QUIET,
    answered,
    ask,
    connect,
    eventually,
    flood,
    pump,
    receive,
    settled,
)

from labs.harness.catalog import ROOT, server_models

SERVERS = ROOT / "servers"


@dataclass(frozen=True)
class Model:
    """A server model as the catalogue finds it, without importing it. `name` is its file's, without `_server.py`."""

    path: Path
    docstring: str
    """Its first line."""
    requires: tuple[str, ...]
    protocol: str

    @property
    def name(self) -> str:
        return self.path.stem.removesuffix("_server")

    @property
    def module(self) -> str:
        return ".".join(self.path.relative_to(ROOT).with_suffix("").parts)


ALL_MODELS = [Model(ROOT / model.path, model.summary, model.requires, model.protocol)
              for model in server_models().values()]
TCP_MODELS = [model for model in ALL_MODELS if model.protocol == "tcp"]


def read_model(path: Path) -> Model:
    """The model in that file."""
    return next(model for model in ALL_MODELS if model.path == path)


@dataclass(frozen=True)
class Nature:
    """What a model does by its nature instead of what the contract asks of all; the default: nothing."""

    serves_at_once: int | None = None
    """Clients served at the same time; the others wait until one of these leaves. None: no bound of its own."""
    descriptors_in_one_process: bool = True
    """False: each client's descriptor lives in a process of its own, so a low limit does not bite."""
    refuses_without_descriptors: bool = False
    """Hangs up on the newest client, where others let it wait, when no descriptor is left for it."""
    busy_when_idle: bool = False
    select_limit: bool = False
    """Refuses the newest client when select() does not take its descriptor."""


NATURE = {
    "blocking": Nature(serves_at_once=1),
    "thread_pool": Nature(serves_at_once=8),
    "processes": Nature(descriptors_in_one_process=False),
    "process_pool": Nature(serves_at_once=4, descriptors_in_one_process=False),
    "busy_poll": Nature(busy_when_idle=True),
    "select": Nature(select_limit=True),
    **dict.fromkeys(("prefork_epoll", "prefork_exclusive", "prefork_reuseport"),
                    Nature(descriptors_in_one_process=False)),
    "twisted": Nature(refuses_without_descriptors=True),
}


def nature(model: Model) -> Nature:
    return NATURE.get(model.name, Nature())


@dataclass(frozen=True)
class Limits:
    """What the server is to be short of; None: as the machine has it. A starter skips what it cannot do."""

    descriptors: int | None = None
    processes: int | None = None


class Server(Protocol):
    """A running server, whoever started it. Sizes in bytes, times in seconds, all over its tree of processes."""

    address: tuple[str, int]

    def alive(self) -> bool: ...
    def stderr(self) -> str: ...
    def cpu(self) -> float: ...
    def memory(self) -> int: ...
    def descriptors(self) -> int: ...
    def zombies(self) -> int: ...
    def processes(self) -> int: ...
    def stop(self) -> None: ...


@dataclass
class NativeServer:
    process: subprocess.Popen[bytes]
    address: tuple[str, int] = ("", 0)
    ready_line: str = ""
    errors: list[bytes] = field(default_factory=list)

    def tree(self) -> list[psutil.Process]:
        try:
            parent = psutil.Process(self.process.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def total(self, figure: Any) -> Any:
        result: Any = 0
        for process in self.tree():
            try:
                result += figure(process)
            except (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
                continue
        return result

    def alive(self) -> bool:
        return self.process.poll() is None

    def stderr(self) -> str:
        return b"".join(self.errors).decode(errors="replace")

    def cpu(self) -> float:
        return float(self.total(lambda process: sum(process.cpu_times()[:2])))

    def memory(self) -> int:
        return int(self.total(lambda process: process.memory_info().rss))

    def descriptors(self) -> int:
        return int(self.total(lambda p: p.num_handles() if sys.platform == "win32" else p.num_fds()))

    def zombies(self) -> int:
        return int(self.total(lambda process: process.status() == psutil.STATUS_ZOMBIE))

    def processes(self) -> int:
        return len(self.tree())

    def stop(self) -> None:
        family = self.tree()
        for process in family:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait(DEADLINE)
        eventually(lambda: all(gone(process) for process in family), "the server's processes are gone")


def gone(process: psutil.Process) -> bool:
    """Whether it runs no more; an orphan may stay a zombie until the system's first process buries it."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def start_natively(model: Model, arguments: Sequence[str] = (), limits: Limits = Limits(),
                   environment: dict[str, str] | None = None) -> NativeServer:
    """Starts the model as a process of this Python; returns when it has said READY. Skips where that cannot be.

    environment: the process's variables; None: those of this process.
    """

    def set_limits() -> None:
        import resource

        if limits.descriptors:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limits.descriptors, limits.descriptors))

    if limits.descriptors and sys.platform == "win32":
        pytest.skip("Windows has no limit on descriptors")
    if limits.processes:
        pytest.skip("a limit on processes needs a container: natively it counts all processes of the user")
    command = [sys.executable, "-m", model.module, "--port", "0", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env=environment, preexec_fn=set_limits if limits.descriptors else None)
    server = NativeServer(process)
    heard = threading.Event()

    def hear() -> None:
        assert process.stdout
        server.ready_line = process.stdout.readline().decode()
        heard.set()

    def log() -> None:
        assert process.stderr
        while piece := os.read(process.stderr.fileno(), 65536):
            server.errors.append(piece)

    for target in hear, log:
        threading.Thread(target=target, daemon=True).start()
    word, *where = server.ready_line.split() if heard.wait(DEADLINE) and server.ready_line else ("nothing",)
    if word != "READY":
        server.stop()
        raise AssertionError(f"{model.module} said {word!r} instead of READY; its stderr:\n{server.stderr()}")
    server.address = (where[0], int(where[1]))
    return server


def lacking(model: Model) -> list[str]:
    """What this machine lacks for the model; asked in this process, as the native server would ask."""
    return importlib.import_module("servers.contract").missing(model.requires or ())


def start_if_offered(model: Model, arguments: Sequence[str] = (), limits: Limits = Limits()) -> NativeServer:
    """start_natively, but skips a model whose requirements this machine does not meet."""
    if absent := lacking(model):
        pytest.skip(f"{model.name}: this machine has no {', '.join(absent)}")
    return start_natively(model, arguments, limits)
