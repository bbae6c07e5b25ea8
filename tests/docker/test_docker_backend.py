"""The docker backend against a real engine: what a process in a container can and cannot do, and that nothing stays."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
import pytest
from conftest import of_run

from labs.harness.deploy import leftovers
from labs.harness.deploy.base import Spec
from labs.harness.deploy.docker_backend import DockerBackend
from labs.harness.deploy.engine import connect
from labs.harness.deploy.native_backend import environment
from labs.harness.errors import InputError, MachineError
from labs.harness.images import Image

DEADLINE = 60.0


def code(text: str, **more: object) -> Spec:
    return Spec("server", ("-c", text), **{"profile": "linux", **more})  # type: ignore[arg-type]


def lines(backend: DockerBackend, text: str, **more: object) -> list[str]:
    """What the program prints, to its end."""
    process = backend.start(code(text, **more))
    found = []
    while (line := process.output.readline(DEADLINE)) is not None:
        found.append(line)
    assert process.exit_code() == 0, process.output.tail()
    process.stop()
    return found


def local(backend: DockerBackend) -> bool:
    return backend.manifest()["local"] == "True"


def test_a_server_answers_and_a_fleet_reaches_it(backend: DockerBackend) -> None:
    spec = Spec("server", ("-m", "servers.blocking.blocking_server", "--host", backend.listen_host), "linux")
    server = backend.start(spec)
    word, _, port = (server.output.readline(DEADLINE) or "").split()
    assert word == "READY" and server.exit_code() is None
    ask = "import socket; s = socket.create_connection(({!r}, {})); s.sendall(b'hello'); print(s.recv(9).decode())"
    assert lines(backend, ask.format(server.host, port)) == ["HELLO"]
    if local(backend):
        with socket.create_connection((server.host, int(port)), DEADLINE) as client:
            client.sendall(b"from here")
            assert client.recv(100) == b"FROM HERE"
    server.stop()
    server.stop()


@pytest.mark.parametrize(("profile", "selector"), [
    ("linux", "EpollSelector"), ("poll-only", "PollSelector"), ("select-only", "SelectSelector")])
def test_the_probe_sees_the_profile(backend: DockerBackend, profile: str, selector: str) -> None:
    process = backend.start(Spec("probe", ("-m", "servers.probe"), profile))  # type: ignore[arg-type]
    facts = json.loads(process.output.readline(DEADLINE) or "")
    assert facts["default-selector"] == selector and facts["profile"] == profile and facts["os"] == "linux"
    assert facts["epoll"] is (profile == "linux") and facts["poll"] is (profile != "select-only")


def test_a_profile_of_another_system_is_an_input_error(backend: DockerBackend) -> None:
    with pytest.raises(InputError, match="windows"):
        backend.start(code("pass", profile="windows"))


def test_orders_go_in_and_the_end_is_told(backend: DockerBackend) -> None:
    fleet = backend.start(code("for _ in range(2): print(input().upper(), flush=True)\n1 / 0"))
    for word in ("one", "two"):
        fleet.write(word)
        assert fleet.output.readline(DEADLINE) == word.upper()
    assert fleet.output.readline(DEADLINE) is None
    assert fleet.exit_code() == 1
    assert fleet.output.tail()[-1] == "ZeroDivisionError: division by zero"
    with pytest.raises(MachineError, match="no longer reads"):
        fleet.write("three")


def test_much_output_on_both_streams_arrives_whole(backend: DockerBackend) -> None:
    found = lines(backend, "import sys\nfor n in range(20000): print(n, 'x' * 50); print(n, file=sys.stderr)")
    assert [line.split()[0] for line in found] == [str(n) for n in range(20000)]


def test_an_out_of_memory_kill_is_called_so(backend: DockerBackend) -> None:
    hungry = backend.start(code("bytearray(10**9)", memory_bytes=64 * 2**20))
    assert hungry.output.readline(DEADLINE) is None
    assert hungry.exit_code() == 137
    assert "out of memory, the limit is 64 MiB" in hungry.output.tail()[-1]


def test_it_is_shut_in(backend: DockerBackend) -> None:
    """As seen from inside: the kernel's word, not the engine's."""
    status = dict(line.split(":\t", 1) for line in lines(backend, "print(open('/proc/self/status').read())")
                  if ":\t" in line)
    assert {status[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    assert set(status["Uid"].split()) == {str(10001 if not os.getuid() or not local(backend) else os.getuid())}
    assert lines(backend, """
import os, socket
for path in ("/lab/x", "/x", "/etc/x", "/dev/shm/../x"):
    try:
        open(path, "w")
        print("wrote", path)
    except OSError:
        pass
open("/tmp/x", "wb").write(b"1" * 10**6)
try:
    open("/tmp/y", "wb").write(b"1" * 10**8)
    print("no limit on /tmp")
except OSError as error:
    print(error.errno)
way_out = socket.socket()
way_out.settimeout(1)
try:
    way_out.connect(("192.0.2.1", 80))
    print("got out")
except OSError as error:
    print(type(error).__name__, error.errno)
""") in (["28", "OSError 101"], ["28", "TimeoutError None"])


def test_its_limits_are_those_asked_for(backend: DockerBackend, client: docker.APIClient) -> None:
    look = "import os, resource; print(*resource.getrlimit(resource.RLIMIT_NOFILE), *os.sched_getaffinity(0))"
    spec = code(look, descriptors=77, memory_bytes=128 * 2**20, pids=33, cpus=(0,))
    process = backend.start(spec)
    assert process.output.readline(DEADLINE) == "77 77 0"
    host = client.inspect_container(process.id)["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["PidsLimit"]) == (128 * 2**20, 128 * 2**20, 33)
    assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and not host["Privileged"]
    with pytest.raises(MachineError, match="container"):
        backend.start(code("pass", cpus=(4095,)))


def test_more_descriptors_than_there_are_is_no_failure(backend: DockerBackend) -> None:
    look = "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    (got,) = lines(backend, look, descriptors=2**30)
    assert int(got) >= 1024
    assert got in backend.manifest()["descriptors"]


def test_an_engine_that_refuses_descriptors_is_asked_for_fewer(
        client: docker.APIClient, image: Image, run: str) -> None:
    with DockerBackend(run, image, client) as backend:
        backend._descriptors = 2**30  # what a wrong guess about a remote machine looks like
        (got,) = lines(backend, "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])")
        assert int(got) >= 1024
        assert backend.manifest()["descriptors"].startswith(f"{got}: the engine refused")


def test_a_folder_of_the_users_is_there_to_read_only(backend: DockerBackend, tmp_path: Path) -> None:
    if not local(backend):
        pytest.skip("a folder of this machine cannot be given to another machine's engine")
    for folder in (tmp_path, *tmp_path.parents[:3]):
        if folder.owner() == Path.home().owner() and folder != Path("/tmp"):
            folder.chmod(0o755)
    (tmp_path / "mine.py").write_text("import os, servers.contract; print(os.getcwd()); open('x', 'w')")
    process = backend.start(Spec("server", ("mine.py",), "linux", folder=tmp_path))
    assert process.output.readline(DEADLINE) == "/work"
    assert process.output.readline(DEADLINE) is None
    assert "Read-only file system" in process.output.tail()[-1]


def test_an_engine_elsewhere_is_asked_for_its_own_cpus(
        client: docker.APIClient, image: Image, run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker Desktop's virtual machine, say, which often has fewer than we have."""
    fewer = {**client.info(), "NCPU": 1}
    monkeypatch.setattr(client, "info", lambda: fewer)
    with DockerBackend(run, image, client) as backend:
        assert backend.cpus == (0,) and backend.manifest()["local"] == "False"


def test_servers_start_side_by_side_under_a_limit_that_is_not_given(
        backend: DockerBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is refused what it asked for; none may take the other's refusal for its own."""
    monkeypatch.setattr(backend, "_descriptors", 1_048_576)
    look = code("import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])")
    with ThreadPoolExecutor(4) as hands:
        started = list(hands.map(backend.start, [look] * 4))
    got = {process.output.readline(DEADLINE) for process in started}
    assert len(got) == 1 and int(got.pop() or 0) >= 4096


@pytest.mark.parametrize("moment", [0.0, 0.05, 0.15, 0.3, 0.5, 0.8])
def test_ctrl_c_leaves_nothing(client: docker.APIClient, image: Image, run: str, moment: float) -> None:
    before = signal.getsignal(signal.SIGINT)
    timer = threading.Timer(moment, os.kill, (os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        timer.start()
        with DockerBackend(run, image, client) as backend:
            while True:
                backend.start(code("input()"))
    timer.join()
    assert of_run(client, run) == []
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_does_not_stop_the_clearing_up(client: docker.APIClient, image: Image, run: str) -> None:
    with pytest.raises(KeyboardInterrupt), DockerBackend(run, image, client) as backend:
        for _ in range(3):
            backend.start(code("input()"))
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        raise KeyboardInterrupt
    assert of_run(client, run) == []


OWNER = """
import sys
from labs.harness import images
from labs.harness.deploy.base import Spec
from labs.harness.deploy.docker_backend import DockerBackend
with DockerBackend(sys.argv[1], images.ensure()) as backend:
    for _ in range(2):
        backend.start(Spec("server", ("-c", "input()"), "linux"))
    backend._create(Spec("server", ("-c", "input()"), "linux"), 1024)  # made, and not yet started
    print("open", flush=True)
    input()
"""


def test_what_a_killed_task_left_is_removed_and_nothing_else(
        client: docker.APIClient, image: Image, backend: DockerBackend, run: str) -> None:
    """Foreign things with similar names, and a container somebody made of our image, survive."""
    mine = backend.start(code("input()"))
    killed = f"{run}-killed"
    task = subprocess.Popen([sys.executable, "-c", OWNER, killed], env=environment("linux"), text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    foreign = [client.create_container(image.tag, ["python3"], name=f"poller-lab-{killed}-x")["Id"]]
    net = client.create_network(f"poller-lab-{killed}-x", labels={"poller-lab": "similar"})["Id"]
    tag = "poller-lab-similar"
    client.tag(image.id, tag)
    try:
        assert task.stdout and task.stdout.readline() == "open\n"
        assert leftovers.find_leftovers(run=killed) == []  # its owner lives
        task.kill()
        task.wait(DEADLINE)
        assert len(of_run(client, killed)) == 4
        done = leftovers.clean(run=killed)
        assert len(done) == 4 and "network" in done[-1], done
        assert of_run(client, killed) == [] and leftovers.clean(run=killed) == []
        assert mine.exit_code() is None and client.inspect_container(mine.id)["State"]["Running"]
        assert client.inspect_container(foreign[0]) and client.inspect_network(net) and client.inspect_image(tag)
        everything = " ".join(found.text for found in leftovers.find_leftovers(all_owners=True))
        assert mine.id[:12] in everything and foreign[0][:12] not in everything and net[:12] not in everything
    finally:
        task.kill()
        task.communicate()
        client.remove_container(foreign[0], force=True)
        client.remove_network(net)
        client.remove_image(tag)


def test_the_manifest_says_what_ran(backend: DockerBackend, client: docker.APIClient, image: Image) -> None:
    told = backend.manifest()
    assert told["digest"] == image.id == client.inspect_image(image.tag)["Id"]
    assert told["engine"] == client.version()["Version"] and told["cgroup"] in ("1", "2")


def test_a_dead_engine_is_one_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    with pytest.raises(MachineError) as caught:
        connect()
    assert "no container engine answers" in str(caught.value) and "--on native" in caught.value.try_this
    assert "Traceback" not in str(caught.value) and caught.value.code == 3


def test_the_io_uring_profile_allows_the_three_calls_and_no_way_out(
        backend: DockerBackend, client: docker.APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put on whatever the engine's version: the kernel gives a ring, or says no for a reason of its own."""
    monkeypatch.setitem(backend._version, "Version", "25.0.0")  # whose own filter blocks io_uring
    process = backend.start(Spec("probe", ("-m", "servers.probe"), "io-uring"))
    facts = json.loads(process.output.readline(DEADLINE) or "")
    host = client.inspect_container(process.id)["HostConfig"]
    assert any(option.startswith("seccomp={") for option in host["SecurityOpt"])
    if not facts["io-uring"] and Path("/proc/sys/kernel/io_uring_disabled").exists():
        assert Path("/proc/sys/kernel/io_uring_disabled").read_text().strip() != "0", facts["io-uring-why"]
    assert facts["default-selector"] == "EpollSelector"
    assert lines(backend, """
import ctypes, errno, subprocess, sys, threading, multiprocessing
libc = ctypes.CDLL(None, use_errno=True)
for call in ("unshare", "setns", "mount", "syscall"):
    arguments = {"unshare": (0x10000000,), "setns": (0, 0), "mount": (0, 0, 0, 0, 0), "syscall": (321, 0, 0, 0)}[call]
    assert getattr(libc, call)(*map(ctypes.c_long, arguments)) == -1
    print(call, errno.errorcode[ctypes.get_errno()])
thread = threading.Thread(target=print, args=("thread",))
thread.start()
thread.join()
print(subprocess.run([sys.executable, "-c", "print('child')"], capture_output=True, text=True).stdout.strip())
""", profile="io-uring") == ["unshare EPERM", "setns EPERM", "mount EPERM", "syscall EPERM", "thread", "child"]
