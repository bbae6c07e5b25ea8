"""What a profile takes away, and what it must leave alone, in processes of this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from labs.harness.deploy.native_backend import PROFILES, environment

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="seccomp is a part of Linux")
unix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows needs no shim: it has the shape by itself")
REDUCED = pytest.mark.parametrize("profile", ["poll-only", "select-only"])


def python(profile: str, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], env=environment(profile), text=True,
                          capture_output=True, timeout=60)


def told(profile: str, code: str) -> str:
    done = python(profile, code)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@linux_only
@pytest.mark.parametrize(("profile", "selector", "poll", "epoll"), [
    ("linux", "EpollSelector", True, True),
    ("poll-only", "PollSelector", True, False),
    ("select-only", "SelectSelector", False, False),
])
def test_the_probe_sees_the_profile(profile: str, selector: str, poll: bool, epoll: bool) -> None:
    requires = json.dumps(["select.epoll", "no_such_package.x"])
    done = subprocess.run([sys.executable, "-m", "servers.probe", "--requires", requires],
                          env=environment(profile), text=True, capture_output=True, timeout=60, check=True)
    (line,) = done.stdout.splitlines()
    facts = json.loads(line)
    assert (facts["default-selector"], facts["poll"], facts["epoll"]) == (selector, poll, epoll)
    assert facts["select-limit"].startswith("512" if profile == "select-only" else "descriptor number 1023")
    assert facts["missing"]["no_such_package.x"] == "the package no_such_package is not installed"
    assert ("select.epoll" in facts["missing"]) is not epoll


@linux_only
@REDUCED
def test_the_kernel_refuses_epoll_to_whoever_asks(profile: str) -> None:
    """By either system call and from C: what a library with its own loop would do."""
    assert told(profile, """
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
calls = {"x86_64": [213, 291], "aarch64": [20]}[os.uname().machine]
got = []
for call in calls:
    assert libc.syscall(ctypes.c_long(call), ctypes.c_long(0)) == -1
    got.append(errno.errorcode[ctypes.get_errno()])
print(*sorted(set(got)))
""") == "ENOSYS"


@linux_only
@pytest.mark.skipif("__import__('platform').machine() != 'x86_64'", reason="only x86-64 has a second table, x32")
def test_the_second_table_of_calls_is_no_way_round() -> None:
    assert told("poll-only", """
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
assert libc.syscall(ctypes.c_long(291 | 0x40000000), ctypes.c_long(0)) == -1
print(errno.errorcode[ctypes.get_errno()])
""") == "ENOSYS"


@linux_only
def test_poll_only_has_the_name_epoll_and_gets_an_error() -> None:
    assert told("poll-only", """
import select, errno
try:
    select.epoll()
except OSError as error:
    print(errno.errorcode[error.errno])
""") == "ENOSYS"


@linux_only
@REDUCED
def test_children_inherit_it_even_when_they_shed_the_environment(profile: str) -> None:
    assert told(profile, """
import subprocess, sys
code = "import selectors; print(selectors.DefaultSelector.__name__)"
print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip(),
      subprocess.run([sys.executable, "-I", "-c", code], env={}, capture_output=True, text=True).stdout.strip())
""") == {"poll-only": "PollSelector PollSelector", "select-only": "SelectSelector PollSelector"}[profile]


@linux_only
def test_a_child_puts_on_no_second_filter() -> None:
    """Each filter costs every system call a little, and a server with child processes would pay it twice."""
    count = ("import re;"
             "print(re.search(r'Seccomp_filters:\\s*(\\d+)', open('/proc/self/status').read()).group(1))")
    outside = int(told("linux", count))
    assert told("poll-only", f"""
import subprocess, sys
print(subprocess.run([sys.executable, "-c", {count!r}], capture_output=True, text=True).stdout)
""") == str(outside + 1)


@unix_only
@pytest.mark.parametrize("profile", [pytest.param("poll-only", marks=linux_only), "select-only"])
def test_what_works_on_windows_goes_on_working(profile: str) -> None:
    assert told(profile, """
import asyncio, concurrent.futures, multiprocessing, socket, subprocess, sys, threading
listener = socket.create_server(("127.0.0.1", 0))
def answer():
    client, _ = listener.accept()
    client.sendall(client.recv(10).upper())
    client.close()
threading.Thread(target=answer).start()
with socket.create_connection(listener.getsockname(), timeout=10) as client:
    client.sendall(b"hello")
    assert client.recv(10) == b"HELLO"
quiet, _peer = socket.socketpair()
quiet.settimeout(0.05)
try:
    quiet.recv(1)
    raise SystemExit("no time-out")
except TimeoutError:
    pass
assert socket.getaddrinfo("localhost", 80)
child = subprocess.run([sys.executable, "-c", "print(input())"], input="x" * 200_000, capture_output=True, text=True,
                       timeout=30)
assert len(child.stdout) == 200_001
here, there = multiprocessing.Pipe()
there.send(1)
assert multiprocessing.connection.wait([here], 10) == [here]
async def shell():
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(7)", stdout=subprocess.PIPE)
    return (await process.communicate())[0]
assert asyncio.run(shell()).strip() == b"7"
print("all")
""") == "all"


@unix_only
def test_select_takes_512_in_a_list_and_not_513() -> None:
    assert told("select-only", """
import select, socket
s, t = socket.socketpair()
t.send(b"x")
print(len(select.select([s] * 512, [s] * 512, [], 5)[0]))
for place in range(3):
    lists = [[], [], []]
    lists[place] = [s] * 513
    try:
        select.select(*lists, 0)
    except ValueError as error:
        print(error)
""").splitlines() == ["512"] + ["too many file descriptors in select()"] * 3


@unix_only
def test_select_has_windows_shape_in_the_rest_too() -> None:
    assert told("select-only", """
import select, selectors, socket
print(sorted(name for name in dir(select) if not name.startswith("_")))
try:
    select.select([], [], [], 0.01)
except OSError as error:
    print(error.errno)
s, t = socket.socketpair()
with selectors.DefaultSelector() as selector:
    selector.register(s, selectors.EVENT_READ | selectors.EVENT_WRITE, "mine")
    t.send(b"x")
    [(key, events)] = selector.select(5)
    print(key.data, events)
for wrong in ((["no descriptor"], [], []), ([s],)):
    try:
        select.select(*wrong)
    except TypeError:
        print("TypeError")
print(select.select(iter([s]), (), set(), 5)[0] == [s])
""").splitlines() == ["['error', 'select']", "10022", "mine 3", "TypeError", "TypeError", "True"]


@unix_only
@pytest.mark.parametrize("profile", ["no-such-profile", *(["poll-only"] if sys.platform != "linux" else [])])
def test_a_profile_that_cannot_be_had_ends_the_process(profile: str) -> None:
    done = python(profile, "print('running unprotected')")
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr.startswith(f"unavailable: profile {profile} cannot be put on: ")


@unix_only
def test_a_shim_that_breaks_ends_the_process(tmp_path: Path) -> None:
    """site.py prints what sitecustomize raises and goes on: a server would run with all its pollers."""
    (tmp_path / "sitecustomize.py").write_bytes((PROFILES / "sitecustomize.py").read_bytes())
    (tmp_path / "fewer_pollers.py").write_text("raise SystemExit(0)")
    done = subprocess.run([sys.executable, "-c", "print('running unprotected')"], capture_output=True, text=True,
                          env={**environment("select-only"), "PYTHONPATH": str(tmp_path)}, timeout=60)
    assert (done.returncode, done.stdout) == (69, "")


@linux_only
def test_a_kernel_that_takes_no_filter_ends_the_process() -> None:
    """A first filter, that answers EINVAL to prctl(PR_SET_SECCOMP), stands for such a kernel."""
    done = python("linux", """
import ctypes, errno, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
prctl = {"x86_64": 157, "aarch64": 167}[os.uname().machine]
program = b"".join(struct.pack("=HBBI", *row) for row in (
    (0x20, 0, 0, 0), (0x15, 0, 2, prctl), (0x20, 0, 0, 16), (0x15, 1, 0, 22),
    (0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050000 | errno.EINVAL)))
text = ctypes.create_string_buffer(program, len(program))
class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("text", ctypes.c_void_p))
argument = Program(len(program) // 8, ctypes.addressof(text))
none = ctypes.c_ulong(0)
assert libc.prctl(38, ctypes.c_ulong(1), none, none, none) == 0
assert libc.prctl(22, ctypes.c_ulong(2), ctypes.byref(argument), none, none) == 0
os.environ["POLLER_LAB_PROFILE"] = "poll-only"
os.execv(sys.executable, [sys.executable, "-c", "print('running unprotected')"])
""")
    assert (done.returncode, done.stdout) == (69, "")
    assert "the kernel takes no seccomp filter: Invalid argument" in done.stderr


def test_no_profile_costs_nothing() -> None:
    native = {"linux": "linux", "darwin": "macos", "win32": "windows"}.get(sys.platform, "linux")
    assert told(native, "import sys; print('ctypes' in sys.modules, 'fewer_pollers' in sys.modules)") == "False False"
