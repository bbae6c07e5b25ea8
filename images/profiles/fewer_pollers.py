"""Takes pollers away from this process and its children.

epoll is refused by the kernel, with a seccomp filter that any process may put on itself: it needs no
privilege, stacks on the filter of a container engine, and is inherited for good. `poll` is not
refused by the kernel, since the C library and Python need it inside for time-outs and name look-up,
which work on Windows as well; it leaves the module `select` instead.

Sources: seccomp(2), linux/seccomp.h, linux/filter.h, linux/audit.h, the system call tables of Linux;
Modules/selectmodule.c and Lib/selectors.py of CPython for the shape of select on Windows.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Iterable
from typing import Any

WINDOWS_FD_SETSIZE = 512
"""How many sockets one list may hold: CPython sets it so when it is built for Windows."""

WINDOWS_INVALID_ARGUMENT = 10022
"""WSAEINVAL, Winsock's answer to three empty lists."""

# Machine as os.uname() calls it → (AUDIT_ARCH, system calls that make an epoll descriptor).
_SYSTEM_CALLS = {
    "x86_64": (0xC000003E, (213, 291)),  # epoll_create, epoll_create1
    "aarch64": (0xC00000B7, (20,)),  # epoll_create1; this architecture never had the older one
}
_X32_BIT = 0x40000000  # x86-64 has a second table with this bit set; it holds the same two numbers

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _AND, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06  # classic BPF: ld [k], and #k, jeq #k, ret #k


def put_on(profile: str) -> str:
    """Puts `profile` on this process. Returns why that cannot be done, "" once it is done."""
    if profile == "poll-only":
        return refuse_epoll() if sys.platform == "linux" else f"it is made of Linux, and this is {sys.platform}"
    if profile == "select-only":
        why = refuse_epoll() if sys.platform == "linux" else ""
        if not why:
            shape_select_like_windows()
        return why
    return "there is no profile of that name"


# --- the kernel's part -----------------------------------------------------------------------------------------------


def refuse_epoll() -> str:
    """Makes the kernel answer ENOSYS to whoever asks for an epoll. Returns why it cannot, "" once it does."""
    machine = os.uname().machine
    if machine not in _SYSTEM_CALLS or struct.calcsize("P") != 8:
        return f"no table of system calls for {machine} with {struct.calcsize('P') * 8} bits"
    import ctypes

    architecture, calls = _SYSTEM_CALLS[machine]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long

    def refused() -> bool:
        for call in calls:
            descriptor = libc.syscall(ctypes.c_long(call), ctypes.c_long(0))
            if descriptor >= 0:
                os.close(descriptor)
            # epoll_create(0) is an invalid argument where it exists, hence the exact error
            if descriptor >= 0 or ctypes.get_errno() != errno.ENOSYS:
                return False
        return True

    if refused():
        return ""  # inherited from the parent: a second filter would only cost time
    program = _program(architecture, calls)
    instructions = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))

    argument = Program(len(program) // 8, ctypes.addressof(instructions))
    zero = ctypes.c_ulong(0)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero):
        return f"no_new_privs: {os.strerror(ctypes.get_errno())}"
    if libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_SECCOMP_MODE_FILTER), ctypes.byref(argument), zero, zero):
        return f"the kernel takes no seccomp filter: {os.strerror(ctypes.get_errno())}"
    return "" if refused() else "the filter is in place, yet the kernel still makes epoll descriptors"


def _program(architecture: int, calls: tuple[int, ...]) -> bytes:
    """The filter, in classic BPF: ENOSYS for `calls`, everything else as it was."""

    def instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
        return struct.pack("=HBBI", code, if_true, if_false, value)

    count = len(calls)
    return b"".join((
        instruction(_LOAD, 4),  # seccomp_data.arch
        instruction(_JUMP_IF_EQUAL, architecture, if_true=1),
        instruction(_RETURN, _KILL_PROCESS),  # a 32-bit program has numbers of its own, so none may run
        instruction(_LOAD, 0),  # seccomp_data.nr
        instruction(_AND, 0xFFFFFFFF ^ _X32_BIT),
        *(instruction(_JUMP_IF_EQUAL, call, if_true=count - place) for place, call in enumerate(calls)),
        instruction(_RETURN, _ALLOW),
        instruction(_RETURN, _ERRNO | errno.ENOSYS),
    ))


# --- Python's part ---------------------------------------------------------------------------------------------------


class WindowsSelect:
    """select.select with the limits it has on Windows.

    An object, not a function: selectors.SelectSelector keeps it as a class attribute, where a function
    would become a method. A descriptor number beyond 1023 is still refused, as the real one below does.
    """

    def __init__(self, select: Any) -> None:
        self._select = select

    def __call__(self, rlist: Iterable[Any], wlist: Iterable[Any], xlist: Iterable[Any],
                 timeout: float | None = None, /) -> tuple[list[Any], list[Any], list[Any]]:
        """As select.select. Raises ValueError for more than 512 in one list, OSError 10022 for three empty ones."""
        lists = [watched if isinstance(watched, list) else list(watched) for watched in (rlist, wlist, xlist)]
        if max(map(len, lists)) > WINDOWS_FD_SETSIZE:
            raise ValueError("too many file descriptors in select()")
        if not any(lists):
            raise OSError(WINDOWS_INVALID_ARGUMENT, "An invalid argument was supplied")
        return self._select(*lists, timeout)


def shape_select_like_windows() -> None:
    """Leaves in module select what it has on Windows: `select`, with its limits, and `error`."""
    import select

    for name in [name for name in vars(select) if not name.startswith("_") and name not in ("select", "error")]:
        delattr(select, name)
    if sys.platform != "win32":
        select.select = WindowsSelect(select.select)
