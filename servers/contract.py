"""The process contract of every server model, and nothing about any I/O model.

A server model is a file with a docstring, a constant REQUIRES, and a function `serve(listener)` that
serves for ever on a listening socket. `run(serve, REQUIRES)` makes a program of it:

    python -m servers.multiplexing.select_server --host 127.0.0.1 --port 9000 --backlog 1024

The program raises its soft descriptor limit to the hard one, prints one line `READY <host> <port>`
(--port 0 lets the system choose), and serves until it is killed. It exits with status 69
(EX_UNAVAILABLE) where the machine lacks something that REQUIRES names.

The service is an echo in capitals: every byte received comes back in order, ASCII lower case made
upper. All models share what stands in this file, so that only their I/O model differs.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import importlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from typing import Any

BUFFER_BYTES = 16 * 1024
"""How much one receive asks for."""

PENDING_BYTES = 64 * 1024
"""How much unsent output a connection may have before its server stops reading from it."""

BACKLOG = 1024
"""Connections the kernel may queue before they are accepted (it caps this at its own limit)."""

EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
"""What accept() fails with when the process or the machine has no descriptor or memory for another connection."""

RETRY_SECONDS = 0.1
"""How long a server that ran out of something waits before it tries again, unless something happens before."""

EXIT_UNAVAILABLE = 69
"""EX_UNAVAILABLE of BSD's sysexits.h."""


def transform(data: bytes) -> bytes:
    """The service itself: ASCII lower case to upper, byte for byte, the length unchanged."""
    return data.upper()


def missing(requires: Iterable[str]) -> list[str]:
    """Which of the names in `requires` this process cannot have.

    A name is a module, or a module and an attribute of it: "uvloop", "os.fork", "select.epoll"; with alternatives,
    "select.epoll or select.kqueue", of which one will do.
    """
    return [names for names in requires if not any(map(offered, names.split(" or ")))]


def offered(name: str) -> bool:
    """Whether this process can have the module, or the attribute of a module, that `name` names."""
    module_name, _, attribute = name.rpartition(".")
    try:
        found = importlib.import_module(module_name or name)
        if module_name:
            found = getattr(found, attribute)
        if name == "select.epoll":
            found().close()  # type: ignore[operator]  # the name may be there and the kernel refuse the call
    except (ImportError, AttributeError, OSError):
        return False
    return True


def fork() -> int:
    """os.fork(), except that on Linux the child is killed when its parent dies, however the parent dies.

    Other systems have no such wish to express: there whoever kills the parent kills its children too.
    Returns the child's process id in the parent and 0 in the child; raises OSError where os.fork() does.
    """
    parent = os.getpid()
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
    child = os.fork()
    if child == 0 and prctl:
        prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG of <linux/prctl.h>
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)
    return child


def raise_descriptor_limit() -> int:
    """Raises this process's soft limit on open descriptors to its hard limit; returns the limit.

    Windows has no such limit for sockets: 0 stands for none.
    """
    try:
        import resource
    except ImportError:
        return 0
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = 1_048_576  # macOS reports no hard limit and then refuses to set "infinite"
    for wanted in (hard, 10_240):  # 10,240 is what macOS's kernel allows at the least
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            break
        except (ValueError, OSError):
            continue
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def listen(
    host: str, port: int, backlog: int, kind: socket.SocketKind = socket.SOCK_STREAM, reuse_port: bool = False
) -> socket.socket:
    """A socket bound to (host, port): listening with Nagle's delay off for a stream, ready to receive for datagrams.

    reuse_port: other sockets that say so too may be bound to the same port (SO_REUSEPORT).
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, kind)
    if sys.platform != "win32":  # on Windows this option would let two programs share the port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port and sys.platform != "win32":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((host, port))
    if kind == socket.SOCK_STREAM:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
        listener.listen(backlog)
    return listener


def announce(host: str, port: int) -> None:
    """Prints the READY line: from now on clients are welcome."""
    print("READY", host, port, flush=True)


def run(
    serve: Callable[..., Any],
    requires: Iterable[str] = (),
    kind: socket.SocketKind = socket.SOCK_STREAM,
    options: Callable[[argparse.ArgumentParser], Any] | None = None,
    reuse_port: bool = False,
) -> None:
    """Makes a program of `serve`: parses the command line, binds, announces READY and serves for ever.

    options: adds arguments of the model's own; their values reach `serve` as keyword arguments.
    reuse_port: see listen(); then `serve` itself calls announce(), once all the sockets it opens are listening.
    Exits 69 where something in `requires` is missing, 1 where the address cannot be bound.
    """
    parser = argparse.ArgumentParser(description=sys.modules[serve.__module__].__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1", help="numeric address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 lets the system choose (default)")
    parser.add_argument("--backlog", type=int, default=BACKLOG, help="accept queue length (default: %(default)s)")
    if options:
        options(parser)
    arguments = vars(parser.parse_args())
    host, port, backlog = (arguments.pop(name) for name in ("host", "port", "backlog"))

    if lacking := missing(requires):
        print(f"unavailable: this machine has no {', '.join(lacking)}", file=sys.stderr)
        raise SystemExit(EXIT_UNAVAILABLE)
    raise_descriptor_limit()
    try:
        listener = listen(host, port, backlog, kind, reuse_port)
    except OSError as error:
        print(f"cannot listen on {host} port {port}: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    if not reuse_port:
        announce(*listener.getsockname()[:2])
    with contextlib.suppress(KeyboardInterrupt):
        serve(listener, **arguments)
