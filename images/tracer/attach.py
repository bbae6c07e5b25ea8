"""Attaches strace to a running server from outside, and prints what it sees.

    python -m images.tracer.attach --root PID [options of strace]

PID and all its present descendants are traced, with their threads and whatever they start later. PID 1 stands for every
process of this process-id namespace but the tracer's own family: a container that shares the server's namespace.

On stdout: `ATTACHED n tid:pid …` once n threads are attached, then strace's lines as `strace -f -ttt -T` writes them.
Orders come on stdin, a word a line: `mark` is answered by `MARK <seconds since the epoch>`, on the clock of strace's
own times; `detach`, or the end of stdin, lets the server go on undisturbed and ends with `DETACHED <seconds>`.
Exits 69 (EX_UNAVAILABLE) where strace is missing or may not attach, and says why on stderr. Linux only.

Sources: strace(1); ptrace(2); proc(5) for the threads of a process.
"""

from __future__ import annotations

import argparse
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

EXIT_UNAVAILABLE = 69
OPTIONS = ("-f", "-ttt", "-T", "-s", "0")  # no contents: what clients send is nobody's business
ATTACH_SECONDS = 15.0
DETACH_SECONDS = 10.0
ATTACHED = re.compile(r"strace: Process (\d+) attached")


class Refused(Exception):
    """strace cannot attach: why."""


def parents() -> dict[int, int]:
    """Process id → parent's, of every process in this namespace."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                status = Path("/proc", entry, "stat").read_text()
            except OSError:
                continue  # it ended
            found[int(entry)] = int(status.rpartition(")")[2].split()[1])  # a name may hold anything, ")" too
    return found


def family(root: int, tree: dict[int, int]) -> set[int]:
    """`root` and its descendants."""
    found, fresh = set(), {root}
    while fresh:
        found |= fresh
        fresh = {pid for pid, parent in tree.items() if parent in fresh} - found
    return found


def targets(root: int, own: int) -> set[int]:
    """The processes to trace."""
    tree = parents()
    everyone = set(tree) if root == 1 else family(root, tree)
    return (everyone & set(tree)) - family(own, tree)


def threads(pids: set[int]) -> dict[int, int]:
    """Thread → process; those that ended meanwhile are left out."""
    found = {}
    for pid in pids:
        try:
            found.update({int(thread): pid for thread in os.listdir(f"/proc/{pid}/task")})
        except OSError:
            continue
    return found


def traced(thread: int, pid: int, by: int) -> bool:
    """Whether process `by` traces the thread, as the kernel says."""
    try:
        status = Path(f"/proc/{pid}/task/{thread}/status").read_text()
    except OSError:
        return True  # it ended, so there is nothing left to trace
    return f"\nTracerPid:\t{by}\n" in status


class Stream:
    """stdout, shared by the lines of strace and our own: never one inside another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def write(self, data: bytes) -> None:
        with self._lock:
            view = memoryview(data)
            while view:
                view = view[os.write(1, view):]


def attach(program: str, root: int, options: list[str], output: int) -> tuple[subprocess.Popen[bytes], dict[int, int]]:
    """strace, attached and writing to descriptor `output`, and the threads it traces. Raises Refused."""
    wanted = targets(root, os.getpid())
    if not wanted:
        raise Refused(f"there is no process {root}")
    chosen = [part for pid in sorted(wanted) for part in ("-p", str(pid))]
    strace = subprocess.Popen([program, *OPTIONS, *options, "-o", f"/dev/fd/{output}", *chosen],
                              stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, pass_fds=(output,),
                              start_new_session=True)  # a Ctrl-C at the terminal is for us to pass on
    assert strace.stderr
    waiting, said, until = set(wanted), b"", time.monotonic() + ATTACH_SECONDS
    while waiting:
        ready, _, _ = select.select([strace.stderr], [], [], max(0.0, until - time.monotonic()))
        data = os.read(strace.stderr.fileno(), 65536) if ready else b""
        said += data
        if not data:
            if ready:
                strace.wait()
            else:
                strace.kill()  # the kernel detaches what a dead tracer held
            raise Refused(said.decode(errors="replace").strip() or f"strace was silent for {ATTACH_SECONDS:g} s")
        waiting -= {int(pid) for pid in ATTACHED.findall(said.decode(errors="replace"))}
    threading.Thread(target=forward_errors, args=(strace,), daemon=True).start()
    found = threads(wanted)
    if free := [thread for thread, pid in found.items() if not traced(thread, pid, strace.pid)]:
        strace.send_signal(signal.SIGINT)
        raise Refused(f"{len(free)} threads are not traced, {free[0]} for one")
    return strace, found


def forward_errors(strace: subprocess.Popen[bytes]) -> None:
    """What else strace says, but for its news of processes that come and go."""
    assert strace.stderr
    for line in strace.stderr:
        if not re.match(rb"strace: Process \d+ (attached|detached)", line):
            os.write(2, line)


def copy_lines(source: int, stream: Stream) -> None:
    """Passes whole lines on until `source` ends."""
    rest = b""
    while data := os.read(source, 65536):
        whole, newline, rest = (rest + data).rpartition(b"\n")
        stream.write(whole + newline)
    if rest:
        stream.write(rest + b"\n")


def obey(stream: Stream) -> None:
    """Until it is time to detach."""
    for line in sys.stdin:
        word = line.strip()
        if word == "mark":
            stream.write(f"MARK {time.time():.6f}\n".encode())
        elif word == "detach":
            return


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m images.tracer.attach", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=int, required=True, help="process to trace; 1: all of them")
    arguments, options = parser.parse_known_args()
    program = shutil.which("strace")
    if not program or sys.platform != "linux":
        print("strace is not installed" if sys.platform == "linux" else "strace is for Linux", file=sys.stderr)
        return EXIT_UNAVAILABLE
    stream = Stream()
    source, output = os.pipe()
    try:
        strace, found = attach(program, arguments.root, options, output)
    except Refused as why:
        print(why, file=sys.stderr)
        return EXIT_UNAVAILABLE
    os.close(output)
    listed = " ".join(f"{thread}:{pid}" for thread, pid in sorted(found.items()))
    stream.write(f"ATTACHED {len(found)} {listed}\n".encode())
    copier = threading.Thread(target=copy_lines, args=(source, stream))
    copier.start()
    try:
        obey(stream)
    except KeyboardInterrupt:
        pass
    finally:
        at = time.time()
        strace.send_signal(signal.SIGINT)  # it detaches from everyone, and ends
        try:
            strace.wait(DETACH_SECONDS)
        except subprocess.TimeoutExpired:
            strace.kill()
        copier.join()
        stream.write(f"DETACHED {at:.6f}\n".encode())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
