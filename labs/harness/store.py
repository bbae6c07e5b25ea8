"""results/<run>/result.json: what a run found, saved as it is found.

A file is replaced as a whole: whoever reads sees the old one or the new one, and a write that fails
(a full disk, a read-only folder) leaves what was saved before. Results of different machines do not mix.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from labs.harness.errors import InputError, MachineError
from labs.harness.model import Machine, Result, Run

FILE = "result.json"
VERSION = 1


def new_run_id(lab: str) -> str:
    """"20260131T120000-select-1a2b3c4d": sorts by time (UTC), names the lab, never occurs twice."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{lab}-{secrets.token_hex(4)}"


def append_result(run: Run, result: Result) -> Run:
    """The run with one more result."""
    return run.model_copy(update={"results": (*run.results, result)})


def save(run: Run, folder: Path) -> Path:
    """Writes folder/<run id>/result.json and returns its path; `folder` holds all runs and is made if need be.

    Raises MachineError where that cannot be done; a file saved before is then unharmed.
    """
    return write(folder / run.id / FILE, run.model_dump_json(indent=1) + "\n")


def write(target: Path, text: str) -> Path:
    """Replaces a file as a whole, and makes its folder if need be. Raises MachineError as save does."""
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # some file systems find out only now that they are full
        temporary.replace(target)
    except OSError as error:
        kept = " (what was saved before is intact)" if target.exists() else ""
        raise MachineError(f"cannot save the results in {target.parent}{kept}", error.strerror or str(error),
                           "free some space there, make it writable, or choose another folder for results") from None
    finally:
        with contextlib.suppress(OSError):  # gone if all went well; a Ctrl-C, too, leaves no half-written file
            temporary.unlink()
    return target


def load(path: Path) -> Run:
    """The run in a folder, or in its result.json. Raises InputError where there is none, or none that we can read."""
    file = path / FILE if path.is_dir() else path
    try:
        data = json.loads(file.read_bytes())
    except OSError as error:
        raise InputError(f"there are no results in {path}", error.strerror or str(error),
                         "give a folder of results/, or its result.json") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{file}:{error.lineno}:{error.colno}: is not JSON", error.msg) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not JSON", f"byte {error.start} is no UTF-8") from None
    version = data.get("version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > VERSION:
        raise InputError(f"{file} was written by a newer version of this project",
                         f"its format is version {version}, this one reads up to {VERSION}", "update this checkout")
    try:
        return Run.model_validate(data)
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, one['loc'])) or 'the file'}: {one['msg']}" for one in error.errors()]
        raise InputError(f"{file} holds no results of ours", "\n".join(wrong)) from None


def runs(folder: Path) -> list[Run]:
    """Every run in the results folder, newest first; what cannot be read as one is passed over."""
    found = []
    for file in folder.glob(f"*/{FILE}"):
        with contextlib.suppress(InputError):
            found.append(load(file))
    return sorted(found, key=lambda run: (run.started, run.id), reverse=True)


def compare_machines(one: Machine, other: Machine) -> tuple[str, ...]:
    """The keys in which two machines differ; those of the engine as "engine.version"."""
    left, right = _flat(one), _flat(other)
    return tuple(key for key in {**left, **right} if left.get(key) != right.get(key))


def refuse_mixing(runs: Iterable[Run]) -> None:
    """Raises InputError, naming the keys that differ, where the runs are not all of one machine."""
    first: Run | None = None
    for other in runs:
        first = first or other
        left, right = _flat(first.machine), _flat(other.machine)
        if keys := compare_machines(first.machine, other.machine):
            differing = "\n".join(f"{key}: {left.get(key)} / {right.get(key)}" for key in keys)
            raise InputError(f"{first.id} and {other.id} were measured on different machines", differing,
                             "show them side by side instead of together")


def _flat(machine: Machine) -> dict[str, Any]:
    data = machine.model_dump(exclude={"engine"})
    return data | {f"engine.{key}": value for key, value in machine.engine.items()}
