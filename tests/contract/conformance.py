"""What the conformance suite of the server models needs: the models, their exceptions by nature, servers and clients.

The suite talks to a server by its address. Who started it is the starter's affair: a function
`start(model, arguments=(), limits=Limits()) -> Server`. `start_natively` is the one for plain processes.
"""

from __future__ import annotations

import ast
import importlib
import os
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVERS = ROOT / "servers"
DEADLINE = 20.0
"""Seconds that anything may take before it counts as hung; nothing waits that long when all is well."""

QUIET = 0.3
"""Seconds of silence after which a socket counts as stuck."""


@dataclass(frozen=True)
class Model:
    """A server model as its source says, read without importing it."""

    path: Path
    docstring: str
    requires: tuple[str, ...] | None
    protocol: str

    @property
    def name(self) -> str:
        return self.path.stem.removesuffix("_server")

    @property
    def module(self) -> str:
        return ".".join(self.path.relative_to(ROOT).with_suffix("").parts)


def read_model(path: Path) -> Model:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError:  # this model's own tests fail and say where, the others' run
        return Model(path, "", None, "tcp")
    constants: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                constants[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:  # not a plain literal, so none of ours
                continue
    return Model(path, ast.get_docstring(tree) or "", constants.get("REQUIRES"), constants.get("PROTOCOL", "tcp"))


ALL_MODELS = [read_model(path) for path in sorted(SERVERS.glob("*/*_server.py"))]
TCP_MODELS = [model for model in ALL_MODELS if model.protocol == "tcp"]


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


def start_natively(model: Model, arguments: Sequence[str] = (), limits: Limits = Limits()) -> NativeServer:
    """Starts the model as a process of this Python; returns when it has said READY. Skips where that cannot be."""

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
                               preexec_fn=set_limits if limits.descriptors else None)
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


def eventually(condition: Any, what: str, seconds: float = DEADLINE) -> None:
    """Waits until condition() is true; fails after the deadline."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"never so: {what}"
        time.sleep(0.02)


def settled(figure: Any) -> Any:
    """figure() once it has stayed the same for a moment: pools start their workers after READY."""
    last = [figure()]

    def same() -> bool:
        time.sleep(0.1)
        last.append(figure())
        return bool(last[-1] == last[-2])

    eventually(same, "the figure settles")
    return last[-1]


def connect(server: Server, receive_buffer: int = 0) -> socket.socket:
    """A client's socket. receive_buffer: bytes the kernel may hold for it (0: the kernel's choice)."""
    client = socket.socket()
    client.settimeout(DEADLINE)
    if receive_buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 262_144)  # a smaller one would trickle
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.connect(server.address)
    return client


def receive(client: socket.socket, count: int) -> bytes:
    """Exactly `count` bytes, or fewer if the server closes before."""
    pieces = []
    while count and (piece := client.recv(min(count, 1 << 20))):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def ask(client: socket.socket, request: bytes = b"hello") -> None:
    """One request and its right answer."""
    client.sendall(request)
    assert receive(client, len(request)) == request.upper()


def flood(client: socket.socket, data: bytes) -> int:
    """Sends without ever receiving, until all is sent or the server takes no more; returns the bytes sent."""
    client.settimeout(QUIET)
    view, sent = memoryview(data), 0
    try:
        while sent < len(data):
            sent += client.send(view[sent : sent + 65536])
    except TimeoutError:
        pass
    client.settimeout(DEADLINE)
    return sent


def pump(client: socket.socket, data: bytes, half_close: bool = False) -> bytes:
    """Sends `data` while receiving; returns what came back: as many bytes, or with half_close all until the end."""
    client.setblocking(False)
    view, sent, answer = memoryview(data), 0, bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(client, selectors.EVENT_READ | selectors.EVENT_WRITE)
        while half_close or len(answer) < len(data):
            ready = selector.select(DEADLINE)
            assert ready, f"stuck: {sent} bytes sent, {len(answer)} received"
            if ready[0][1] & selectors.EVENT_WRITE:
                sent += client.send(view[sent : sent + 65536])
                if sent == len(data):
                    selector.modify(client, selectors.EVENT_READ)
                    if half_close:
                        client.shutdown(socket.SHUT_WR)
            if ready[0][1] & selectors.EVENT_READ:
                if not (piece := client.recv(65536)):
                    break
                answer += piece
    client.settimeout(DEADLINE)
    return bytes(answer)


def answered(clients: Iterable[socket.socket], at_least: int, seconds: float = DEADLINE) -> list[socket.socket]:
    """Those clients that have something to receive: as soon as there are `at_least`, or when the time is over."""
    end = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client, selectors.EVENT_READ)
        ready: dict[socket.socket, None] = {}
        while len(ready) < at_least and (left := end - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                assert isinstance(key.fileobj, socket.socket)
                ready[key.fileobj] = None
                selector.unregister(key.fileobj)
    return list(ready)
