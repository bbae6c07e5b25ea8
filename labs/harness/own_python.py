"""This machine's Python as a file tree: interpreter, standard library, and the shared objects that `ldd` names.

In an otherwise empty image it makes a base without a registry, in seconds. Paths stay those of this
machine, so that whatever was compiled into the interpreter (its prefix, an RPATH) still holds. Linux only.
"""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from labs.harness.errors import MachineError

LEFT_OUT = {"test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "pydoc_data", "site-packages",
            "dist-packages", "__phello__"}
"""Folders of the standard library that no server needs."""

USER = "lab:x:10001:10001:lab:/tmp:/bin/false\n"
INSTALL_SECONDS = 120.0

_DESCRIBE = """
import json, os, site, sys, sysconfig
print(json.dumps({"executable": os.path.realpath(sys.executable), "version": ".".join(map(str, sys.version_info[:3])),
    "cache": sys.implementation.cache_tag, "standard": list(dict.fromkeys([sysconfig.get_path("stdlib"),
    sysconfig.get_path("platstdlib"), *(os.path.dirname(p) for p in sys.path if p.endswith("lib-dynload"))])),
    "packages": [p for p in site.getsitepackages() if p.startswith(sys.prefix)][0]}))
"""


@dataclass(frozen=True)
class Interpreter:
    """The Python below this one, outside any virtual environment. All paths absolute."""

    executable: str
    version: str
    cache: str
    """Part of a compiled module's file name, for instance "cpython-311"."""
    standard: tuple[str, ...]
    """Folders of the standard library and its extension modules."""
    packages: str
    """Where it looks for installed packages."""

    @classmethod
    def of_this_machine(cls) -> Interpreter:
        """Raises MachineError where the interpreter does not run by itself."""
        base = getattr(sys, "_base_executable", None) or sys.executable
        try:
            answer = subprocess.run([base, "-I", "-c", _DESCRIBE],
                                    capture_output=True, text=True, timeout=20, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            raise MachineError(f"the Python at {base} does not describe itself", str(error)) from None
        told = json.loads(answer.stdout)
        return cls(**{**told, "standard": tuple(told["standard"])})


@dataclass
class Tree:
    """What goes into the image: absolute path → a file of this machine, bytes, or the target of a symbolic link."""

    files: dict[str, Path | bytes | str]
    empty: frozenset[str] = frozenset()
    """Folders to make though nothing is in them."""

    def write(self, stream: IO[bytes]) -> None:
        """As a tar archive, with everything readable by everyone and owned by root. Raises OSError."""
        folders = {str(parent) for name in self.files for parent in Path(name).parents} - {"/"}
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
            for folder in sorted(folders | self.empty):
                entry = tarfile.TarInfo(folder.lstrip("/"))
                entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "/tmp" else 0o755
                archive.addfile(entry)
            for name, content in sorted(self.files.items()):
                entry = tarfile.TarInfo(name.lstrip("/"))
                entry.mode = 0o644
                if isinstance(content, str):
                    entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, content, 0o777
                    archive.addfile(entry)
                elif isinstance(content, bytes):
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))
                else:
                    with content.open("rb") as file:
                        found = os.fstat(file.fileno())
                        # A compiled module names the whole second in which its source was written.
                        entry.size, entry.mtime = found.st_size, int(found.st_mtime)
                        entry.mode = 0o755 if found.st_mode & 0o111 else 0o644
                        archive.addfile(entry, file)


def tree(python: Interpreter, packages: Path) -> Tree:
    """Everything `python` needs to run in an empty image, with the packages installed in folder `packages`.

    Raises MachineError where a shared object of the interpreter is missing.
    """
    files: dict[str, Path | bytes | str] = {python.executable: Path(python.executable)}
    files[str(Path(python.executable).with_name("python3"))] = Path(python.executable).name
    for folder in python.standard:
        files.update({str(file): file for file in _modules(Path(folder), python.cache, LEFT_OUT)})
    for file in _modules(packages, python.cache, {"test", "tests"}):
        files[f"{python.packages}/{file.relative_to(packages).as_posix()}"] = file
    binaries = [file for name, file in files.items() if isinstance(file, Path) and ".so" in Path(name).name]
    programs = [Path(python.executable)]
    if strace := shutil.which("strace"):  # for the tracer; without it system calls can be neither counted nor shown
        files["/usr/bin/strace"] = Path(strace).resolve()
        programs.append(Path(strace))
    for name in shared_objects([*programs, *binaries]):
        if not Path(name).is_relative_to(packages):
            files.setdefault(name, Path(name).resolve())
    if Path("/etc/ld.so.cache").exists():  # the loader finds libraries in unusual folders only through it
        files["/etc/ld.so.cache"] = Path("/etc/ld.so.cache")
    files["/etc/passwd"] = ("root:x:0:0:root:/:/bin/false\n" + USER).encode()
    files["/etc/group"] = b"root:x:0:\nlab:x:10001:\n"
    return Tree(files, frozenset({"/tmp", "/proc", "/sys", "/dev", "/etc"}))


def _modules(folder: Path, cache: str, left_out: set[str]) -> Iterator[Path]:
    """The files below `folder` that a program may import or read; of compiled modules only this Python's."""
    for here, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in left_out and not name.startswith("config-")]
        cached = here.endswith("__pycache__")
        for name in names:
            wanted = name.endswith(f".{cache}.pyc") if cached else not name.endswith((".pyc", ".a", ".exe"))
            if wanted and not (".so" in name and name.startswith(("_tkinter", "_test", "_ctypes_test", "xx"))):
                path = Path(here, name)
                if path.is_file():
                    yield path


def shared_objects(binaries: list[Path]) -> set[str]:
    """Paths of the shared objects that `binaries` load, the loader included, as `ldd` names them.

    Empty for a static executable. Raises MachineError without ldd.
    """
    try:
        answer = subprocess.run(["ldd", *map(str, binaries)], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MachineError("cannot find out which libraries Python needs", f"ldd: {error}") from None
    # "libc.so.6 => /lib/libc.so.6 (0x…)" and, for the loader, "/lib64/ld-linux-x86-64.so.2 (0x…)"
    paths = re.findall(r"^\s+(?:\S+ => )?(/\S+) \(0x[0-9a-f]+\)$", answer.stdout, re.MULTILINE)
    return {os.path.normpath(path) for path in paths if Path(path).exists()}


# --- third-party packages --------------------------------------------------------------------------------------------


def install(requirements: Path, folder: Path) -> str:
    """Installs what `requirements` lists into `folder`, without dependencies; returns how.

    First choice is a copy of what this environment has: it needs no network. Raises MachineError.
    """
    wanted = [line.partition("#")[0].strip() for line in requirements.read_text("utf-8").splitlines()]
    wanted = [line for line in wanted if line]
    missing = [line for line in wanted if not _copy_installed(line, folder)]
    if not missing:
        return "copied from this environment"
    options = ["--target", str(folder), "--no-deps", "--quiet", *missing]
    attempts = [[sys.executable, "-m", "pip", "install", "--disable-pip-version-check", *options]]
    if uv := shutil.which("uv"):
        attempts.append([uv, "pip", "install", "--python", sys.executable, *options])
    why = ""
    for attempt in attempts:
        try:
            done = subprocess.run(attempt, capture_output=True, text=True, timeout=INSTALL_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            why = str(error)
            continue
        if done.returncode == 0:
            return "installed by " + Path(attempt[0]).name
        why = (done.stderr.strip().splitlines() or ["no message"])[-1]
    raise MachineError(f"cannot install {', '.join(missing)} for the image", why,
                       f"install them in this environment: {sys.executable} -m pip install -r {requirements}")


def _copy_installed(requirement: str, folder: Path) -> bool:
    """Copies the installed distribution that satisfies `requirement` ("name", "name>=version"); False if none does."""
    parsed = re.fullmatch(r"([A-Za-z0-9._-]+)\s*(?:>=\s*([0-9.]+))?", requirement)
    if not parsed:
        return False
    name, least = parsed.groups()
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    if least and _numbers(distribution.version) < _numbers(least):
        return False
    files = [file for file in distribution.files or () if not file.is_absolute() and ".." not in file.parts]
    if not any(file.suffix in (".py", ".so") for file in files):
        return False  # an editable install lists no modules
    for file in files:
        source = Path(str(distribution.locate_file(file)))
        if source.is_file():
            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return True


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]
