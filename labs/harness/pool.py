"""Servers: how one is started, and how those of many trials are started side by side, and ended, between windows."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from labs.harness.deploy.base import EXIT_UNAVAILABLE, Backend, Deadline, Process, Spec
from labs.harness.errors import LabError, ServerFailed
from labs.harness.fleets import Address, exit_words
from labs.harness.model import Profile, ServerModel

START_SECONDS = 20.0

BATCH = 3
"""Servers started side by side. Measured on two CPUs: a container alone takes 0.38 s, two 0.50 s, three 0.63 s."""

Server = tuple[Process, Address]


def start_server(backend: Backend, spec: Spec) -> Server:
    """A server that has announced itself, and where it listens. Raises ServerFailed where it does not."""
    process = backend.start(spec)
    name = spec.command[1 if spec.role == "server" else -1]
    deadline = Deadline(START_SECONDS)
    try:
        while (line := process.output.readline(deadline.left())) is not None:
            match line.split():
                case ["READY", _, port]:
                    return process, (process.host, int(port))
        code = exit_words(process)
        why = "it says that this platform lacks what it requires" if process.exit_code() == EXIT_UNAVAILABLE else ""
        raise ServerFailed(f"{name} ended before it was ready{code}", why, log=process.output.tail())
    except TimeoutError:
        process.stop()
        raise ServerFailed(f"{name} was not ready within {START_SECONDS:g} s",
                           "it printed no READY line", log=process.output.tail()) from None
    except BaseException:
        process.stop()
        raise


def server_spec(backend: Backend, model: ServerModel, profile: Profile, cpus: tuple[int, ...] = ()) -> Spec:
    """How `model` is started on `backend`, on a port that is free there."""
    command = ("-m", model.module, "--host", backend.listen_host, "--port", "0")
    return Spec("server", command, profile, cpus, folder=Path(model.folder) if model.folder else None)


@dataclass(frozen=True)
class Wanted:
    """The server that a trial needs."""

    spec: Spec
    fresh: bool = True
    """Whether it must have served nobody before; else one serves all trials that ask for it so."""


class ServerPool:
    """Gives each trial its server, and keeps the work of starting and ending servers out of the windows.

    Those of the plan are started a few at a time, ahead of their turn, and ended when the next few are started. So
    they share other trials' windows, and must sleep while nobody asks them. A server that would not sleep is left out
    of the plan; it is started when it is taken and ended when it is released.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._hands = ThreadPoolExecutor(BATCH, thread_name_prefix="servers")
        self._planned: deque[Wanted] = deque()
        self._ready: deque[tuple[Wanted, Future[Server]]] = deque()
        self._kept: dict[Wanted, Server] = {}
        self._used: list[Process] = []
        """Were fresh, have had their trial, and are not ended yet."""

    def plan(self, wanted: Iterable[Wanted]) -> None:
        """The servers of the trials to come, in their order. Of an earlier plan only kept ones asked again live on."""
        asked = list(wanted)
        self.clear(keep=asked)
        seen = set(self._kept)
        for one in asked:
            if one.fresh or one not in seen:
                self._planned.append(one)
            seen.add(one)

    def take(self, wanted: Wanted) -> Server:
        """The next such server of the plan; those before it are passed over. A new one, where the plan has none.

        Raises as start_server does.
        """
        if wanted in self._kept:
            return self._kept[wanted]
        if wanted not in self._planned and all(wanted != ready for ready, _ in self._ready):
            return start_server(self._backend, wanted.spec)
        while self._ready and self._ready[0][0] != wanted:
            self._discard()
        if not self._ready:
            while self._planned[0] != wanted:
                self._planned.popleft()
            self._start_batch()
        try:
            server = self._ready[0][1].result()  # interrupted here, it is still ours to end
        except LabError:
            self._ready.popleft()
            raise
        if wanted.fresh:
            self._used.append(server[0])
        else:
            self._kept[wanted] = server
        self._ready.popleft()
        return server

    @contextmanager
    def lend(self, wanted: Wanted) -> Iterator[Server]:
        """What take() gives, for one trial. One that fails in it is ended at once, for the sake of the next trial."""
        server = self.take(wanted)
        try:
            yield server
        except ServerFailed:
            server[0].stop()
            raise
        finally:
            self.release(server[0])

    def release(self, process: Process) -> None:
        """The trial is over."""
        if process not in self._used and all(process is not kept for kept, _ in self._kept.values()):
            process.stop()

    def clear(self, keep: Collection[Wanted] = ()) -> None:
        """Forgets the plan, and ends all that was started for it; keep: kept servers that live on."""
        self._planned.clear()
        while self._ready:
            self._discard()
        for gone in [kept for kept in self._kept if kept not in keep]:
            self._used.append(self._kept.pop(gone)[0])
        self._end_used()

    def _start_batch(self) -> None:
        self._end_used()
        batch = [self._planned.popleft() for _ in range(min(BATCH, len(self._planned)))]
        self._ready.extend((each, self._hands.submit(start_server, self._backend, each.spec)) for each in batch)
        wait([future for _, future in self._ready])

    def _end_used(self) -> None:
        while self._used:
            self._used[-1].stop()
            self._used.pop()

    def _discard(self) -> None:
        with suppress(LabError):
            self._ready[0][1].result()[0].stop()
        self._ready.popleft()
