"""Finds what the project holds: labs and server models. Reads source text and imports nothing of it."""

from __future__ import annotations

import ast
import difflib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from labs.harness.errors import InputError
from labs.harness.model import ServerModel

ROOT = Path(__file__).resolve().parents[2]
"""The project's folder. Everything else that needs it takes it from here."""

SUFFIX = "_server.py"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` was probably meant to be, if one is close enough."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)), None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """"; did you mean 'select'?", or "" where nothing is near."""
    near = nearest(word, known)
    return f"; did you mean '{near}'?" if near else ""


def server_models(root: Path = ROOT) -> dict[str, ServerModel]:
    """Every servers/**/*_server.py by name, in order of path. Raises InputError where one cannot be read."""
    models: dict[str, ServerModel] = {}
    for path in sorted((root / "servers").rglob(f"*{SUFFIX}")):
        model = _read_model(root, path)
        if model.name in models:
            raise InputError(f"two server models are called '{model.name}'",
                             f"{models[model.name].path} and {model.path}", "rename one of the files")
        models[model.name] = model
    return models


def find_server(name: str, root: Path = ROOT) -> ServerModel:
    """The server model called `name`. Raises InputError, with the nearest name, where there is none."""
    models = server_models(root)
    if name not in models:
        raise _unknown("server model", name, models, "invoke server.list")
    return models[name]


def lab_folders(root: Path = ROOT) -> dict[str, Path]:
    """Every folder of labs/ with a lab.yaml, by name."""
    return {path.parent.name: path.parent for path in sorted((root / "labs").glob("*/lab.yaml"))}


def find_lab(root: Path, name: str) -> Path:
    """The folder of the lab called `name`. Raises InputError, with the nearest name, where there is none."""
    folders = lab_folders(root)
    if name not in folders:
        raise _unknown("lab", name, folders, "invoke lab.list")
    return folders[name]


def _unknown(kind: str, name: str, known: Iterable[str], listing: str) -> InputError:
    known = list(known)
    near = nearest(name, known)
    there = f"there are: {', '.join(known)}" if known else "there are none"
    return InputError(f"there is no {kind} '{name}'", there, f"did you mean '{near}'?" if near else listing)


def _read_model(root: Path, path: Path) -> ServerModel:
    place = path.relative_to(root).as_posix()
    try:
        tree = ast.parse(path.read_bytes(), filename=place)
    except SyntaxError as error:
        raise InputError(f"{place}:{error.lineno}:{error.offset}: is not valid Python", error.msg) from None
    except (OSError, ValueError) as error:  # ValueError: null bytes
        raise InputError(f"{place} cannot be read", str(error)) from None
    docstring = (ast.get_docstring(tree) or "").strip()
    parts = path.relative_to(root).with_suffix("").parts
    try:
        return ServerModel(
            name=path.name.removesuffix(SUFFIX).replace("_", "-"),
            group=parts[-2].replace("_", "-"),
            module=".".join(parts),
            path=place,
            summary=docstring.partition("\n")[0].strip(),
            requires=_constant(tree, "REQUIRES", ()),
            protocol=_constant(tree, "PROTOCOL", "tcp"),
        )
    except ValueError as error:  # pydantic's errors are ValueErrors
        raise InputError(f"{place} is no proper server model", str(error),
                         "write REQUIRES as a tuple of texts, PROTOCOL as \"tcp\", \"udp\" or \"http\"") from None


def _constant(tree: ast.Module, name: str, default: Any) -> Any:
    """The literal assigned to a name at the top of the module, or this platform's of two.

    Raises ValueError where it is no literal.
    """
    for statement in tree.body:
        match statement:
            case (ast.Assign(targets=[ast.Name(id=found)], value=ast.expr() as value)
                  | ast.AnnAssign(target=ast.Name(id=found), value=ast.expr() as value)) if found == name:
                return ast.literal_eval(_here(value))
    return default


def _here(value: ast.expr) -> ast.expr:
    """The branch of `a if sys.platform == "win32" else b` that this machine takes; anything else as it is."""
    match value:
        case ast.IfExp(test=ast.Compare(left=ast.Attribute(value=ast.Name(id="sys"), attr="platform"), ops=[ast.Eq()],
                                        comparators=[ast.Constant(value=str(platform))]), body=yes, orelse=no):
            return _here(yes if sys.platform == platform else no)
    return value
