"""Puts the profile that POLLER_LAB_PROFILE names on a Python process, before any other code runs.

Python imports a module of this name by itself at start-up, once its folder is on PYTHONPATH. Child
processes inherit the variable, and with it the profile.

    linux, macos, windows, io-uring   nothing to take away
    poll-only                         the kernel refuses epoll
    select-only                       that, and the module select has the shape it has on Windows

A profile that cannot be put on ends the process with status 69 (EX_UNAVAILABLE): a server must never
be measured with pollers that its profile says it has not.
"""

import os

_profile = os.environ.get("POLLER_LAB_PROFILE", "")
if _profile and _profile not in ("linux", "macos", "windows", "io-uring"):
    # Not SystemExit or any other exception: site.py prints some and goes on, and takes others for a broken Python.
    try:
        import fewer_pollers

        _why = fewer_pollers.put_on(_profile)
    except BaseException as _error:
        _why = f"{type(_error).__name__}: {_error}"
    if _why:
        os.write(2, f"unavailable: profile {_profile} cannot be put on: {_why}\n".encode())
        os._exit(69)
