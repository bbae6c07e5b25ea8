"""The native backend: real processes, their ends, and that none of them stays."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from labs.harness.deploy import leftovers
from labs.harness.deploy.base import Spec
from labs.harness.deploy.native_backend import OFFERED, ROOT, NativeBackend, environment, marked_processes
from labs.harness.errors import InputError, MachineError
from labs.harness.model import Profile

NATIVE: Profile = OFFERED[sys.platform][0]
DEADLINE = 30.0
unix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit or signal")


def code(text: str, **more: object) -> Spec:
    return Spec("server", ("-c", text), NATIVE, **more)  # type: ignore[arg-type]


def eventually(condition: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.01)


def of_run(run: str) -> list[int]:
    return [process.pid for process, found, _ in marked_processes() if found == run]


@pytest.fixture
def run() -> str:
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def backend(run: str) -> Iterator[NativeBackend]:
    with NativeBackend(run) as opened:
        yield opened
    assert of_run(run) == []


def test_a_server_answers(backend: NativeBackend) -> None:
    spec = Spec("server", ("-m", "servers.blocking.blocking_server", "--host", backend.listen_host), NATIVE)
    server = backend.start(spec)
    word, host, port = (server.output.readline(DEADLINE) or "").split()
    assert (word, host) == ("READY", server.host)
    with socket.create_connection((host, int(port)), DEADLINE) as client:
        client.sendall(b"hello")
        assert client.recv(100) == b"HELLO"
    assert server.exit_code() is None
    server.stop()
    server.stop()
    assert not psutil.pid_exists(server.pid)


def test_orders_go_in_and_answers_come_out(backend: NativeBackend) -> None:
    fleet = backend.start(code("import sys\nfor line in sys.stdin: print(line.upper(), end='', flush=True)"))
    for word in ("one", "two"):
        fleet.write(word)
        assert fleet.output.readline(DEADLINE) == word.upper()
    with pytest.raises(TimeoutError):
        fleet.output.readline(0.05)


def test_the_end_is_told_with_its_code_and_last_words(backend: NativeBackend) -> None:
    broken = backend.start(code("import sys; print('so far'); print('x' * 100_000, file=sys.stderr); 1 / 0"))
    assert broken.output.readline(DEADLINE) == "so far"
    assert broken.output.readline(DEADLINE) is None
    assert broken.output.readline(0) is None
    assert broken.output.tail()[-1] == "ZeroDivisionError: division by zero"
    eventually(lambda: broken.exit_code() == 1, "it should have ended with 1")

    def refused() -> bool:
        try:
            broken.write("anybody there?")
        except MachineError as error:
            return "no longer reads" in str(error)
        return False

    eventually(refused, "writing to a dead process should fail")


@pytest.mark.skipif(sys.platform not in ("linux", "win32"), reason="this OS cannot confine a process to a CPU")
def test_it_stays_on_its_cpus(backend: NativeBackend) -> None:
    cpu = psutil.Process().cpu_affinity()[-1]
    confined = backend.start(code("input()", cpus=(cpu,)))
    assert psutil.Process(confined.pid).cpu_affinity() == [cpu]
    with pytest.raises(MachineError, match="CPUs"):
        backend.start(code("input()", cpus=(4095,)))


@unix_only
def test_its_descriptors_are_limited_from_its_first_moment(backend: NativeBackend) -> None:
    look = "import resource; print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    assert backend.start(code(look, descriptors=40)).output.readline(DEADLINE) == "40 40"
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY:
        assert backend.start(code(look, descriptors=hard + 1)).output.readline(DEADLINE) == f"{hard} {hard}"
        assert str(hard) in backend.manifest()["descriptors"]


def test_it_runs_where_it_is_told_to(backend: NativeBackend, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import os, servers.contract; print(os.getcwd(), os.environ['EXTRA'])")
    mine = Spec("server", ("mine.py",), NATIVE, folder=tmp_path, environment=(("EXTRA", "given"),))
    assert backend.start(mine).output.readline(DEADLINE) == f"{tmp_path.resolve()} given"
    assert backend.start(code("import os; print(os.getcwd())")).output.readline(DEADLINE) == str(ROOT)


def test_a_profile_of_another_system_is_an_input_error(backend: NativeBackend) -> None:
    foreign: Profile = "windows" if sys.platform != "win32" else "macos"
    with pytest.raises(InputError, match=foreign):
        backend.start(Spec("server", ("-c", "pass"), foreign))


def test_stopping_takes_the_children_along(backend: NativeBackend, run: str) -> None:
    spawn = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', {!r}]); print('up', flush=True); input()"
    server = backend.start(code(spawn.format(spawn.format("import time; time.sleep(600)"))))
    server.output.readline(DEADLINE)
    server.output.readline(DEADLINE)
    eventually(lambda: len(of_run(run)) >= 3, "a grandchild should have come up")
    server.stop()
    eventually(lambda: of_run(run) == [], "everything should be gone")


@unix_only
def test_orphans_of_a_dead_server_are_taken_along(backend: NativeBackend, run: str) -> None:
    fork = "import os, time\nif os.fork(): os._exit(3)\nprint('orphan', flush=True)\ntime.sleep(600)"
    server = backend.start(code(fork))
    assert server.output.readline(DEADLINE) == "orphan"
    eventually(lambda: server.exit_code() == 3, "the parent should have ended")
    assert len(of_run(run)) == 1
    server.stop()
    eventually(lambda: of_run(run) == [], "the orphan should be gone")


@unix_only
def test_who_leaves_the_session_is_swept_up_at_the_end(run: str) -> None:
    with NativeBackend(run) as backend:
        away = "import os, time\nif os.fork(): os._exit(0)\nos.setsid()\nprint('away', flush=True)\ntime.sleep(600)"
        assert backend.start(code(away)).output.readline(DEADLINE) == "away"
    eventually(lambda: of_run(run) == [], "nothing of the run should be left")


@unix_only
@pytest.mark.parametrize("moment", [0.0, 0.02, 0.05, 0.1])
def test_ctrl_c_leaves_nothing(run: str, moment: float) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), NativeBackend(run) as backend:
        threading.Timer(moment, os.kill, (os.getpid(), signal.SIGINT)).start()
        while True:
            backend.start(code("import time; time.sleep(600)"))
            time.sleep(0.01)
    assert of_run(run) == []
    assert signal.getsignal(signal.SIGINT) is before


OWNER = """
import sys
from labs.harness.deploy.base import Spec
from labs.harness.deploy.native_backend import NativeBackend
with NativeBackend(sys.argv[1]) as backend:
    for _ in range(3):
        backend.start(Spec("server", ("-c", "import time; time.sleep(600)"), sys.argv[2]))
    print("open", flush=True)
    input()
"""


def test_what_a_killed_task_left_is_found_and_removed_and_nothing_else(run: str, backend: NativeBackend) -> None:
    mine = backend.start(code("import time; time.sleep(600)"))
    foreign = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)  # poller-lab"])
    killed = f"{run}-killed"
    task = subprocess.Popen([sys.executable, "-c", OWNER, killed, NATIVE], env=environment(NATIVE), text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert task.stdout and task.stdout.readline() == "open\n"
        assert leftovers.find_leftovers(run=killed) == []  # its owner lives
        task.kill()
        task.wait(DEADLINE)
        assert len(leftovers.find_leftovers(run=killed)) == len(of_run(killed)) == 3
        assert len(leftovers.clean(run=killed)) == 3
        assert of_run(killed) == [] and leftovers.find_leftovers(run=killed) == []
        assert mine.exit_code() is None and foreign.poll() is None
    finally:
        for process in (foreign, task):
            process.kill()
            process.communicate()
