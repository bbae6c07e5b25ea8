"""The arrows, read from the imports: who may know whom, and how long a file may be."""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HARNESS = sorted((ROOT / "labs" / "harness").rglob("*.py"))
FOLDERS = ("labs/harness", "servers", "clients")

LAYERS = (  # from the bottom up; who is not named stands with the runner
    {"errors"}, {"model"}, {"stats", "metrics", "verdicts"}, {"loading", "marked", "catalog", "platform", "schema"},
    {"deploy", "measure", "images", "image_bases", "own_python", "store", "availability"},
)
TOP = len(LAYERS)


def part(module: str) -> str:
    """labs.harness.deploy.base → deploy"""
    return module.split(".")[2]


def layer(module: str) -> int:
    return next((height for height, names in enumerate(LAYERS) if part(module) in names), TOP)


def name(path: Path) -> str:
    dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return dotted.removesuffix(".__init__")


@cache
def exists(module: str) -> bool:
    path = ROOT.joinpath(*module.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def imports(path: Path, *, top_only: bool = False, for_types: bool = False) -> Iterator[str]:
    """The modules that a file imports; those for type checking only are left out, unless asked for."""
    package = name(path).split(".")[:None if path.name == "__init__.py" else -1]

    def walk(node: ast.AST) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if not for_types and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if top_only and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            if isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = ".".join([*package[:len(package) - child.level + 1], *filter(None, [child.module])]) \
                    if child.level else child.module or ""
                for alias in child.names:
                    inner = f"{base}.{alias.name}"
                    yield inner if exists(inner) else base
            yield from walk(child)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")))


def test_the_reader_of_imports_sees_them(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    exists.cache_clear()
    package = tmp_path / "labs" / "harness" / "deploy"
    package.mkdir(parents=True)
    (package / "base.py").touch()
    file = package / "x.py"
    file.write_text("import os.path\nfrom . import base\nfrom ..errors import LabError\n"
                    "if TYPE_CHECKING:\n    import hidden\ndef f():\n    import docker\n")
    assert list(imports(file)) == ["os.path", "labs.harness.deploy.base", "labs.harness.errors", "docker"]
    assert "docker" not in list(imports(file, top_only=True))
    assert "hidden" in list(imports(file, for_types=True))
    exists.cache_clear()


@pytest.mark.parametrize("path", [path for path in HARNESS if len(name(path).split(".")) > 2], ids=name)
def test_arrows_point_down(path):
    for target in imports(path):
        if target.startswith("labs.harness."):
            assert layer(target) <= layer(name(path)), f"{name(path)} must not know {target}"


def check_circles(paths: list[Path], *, for_types: bool = False) -> None:
    """Raises CycleError, which names the circle."""
    names = {name(path) for path in paths}
    graph = {name(path): names.intersection(imports(path, for_types=for_types)) - {name(path)} for path in paths}
    TopologicalSorter(graph).prepare()


def test_no_circles():
    check_circles(HARNESS)


@pytest.mark.parametrize("folder", ["servers", "clients"])
def test_no_circles_not_even_of_types(folder):
    check_circles(sorted((ROOT / folder).rglob("*.py")), for_types=True)


def test_a_circle_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    exists.cache_clear()
    one, other = (tmp_path / "clients" / file for file in ("one.py", "other.py"))
    one.parent.mkdir()
    one.write_text("from clients.other import Other\n")
    other.write_text("if TYPE_CHECKING:\n    from clients import one\n")
    check_circles([one, other])
    with pytest.raises(CycleError, match=r"clients\.one"):
        check_circles([one, other], for_types=True)
    exists.cache_clear()


@pytest.mark.parametrize("folder", ["servers", "clients"])
def test_what_runs_in_a_container_does_not_know_the_harness(folder):
    for path in (ROOT / folder).rglob("*.py"):
        assert not [target for target in imports(path) if target.split(".")[0] in ("labs", "tasks")], path


def test_the_harness_runs_servers_and_clients_and_does_not_import_them():
    for path in HARNESS:
        assert not [target for target in imports(path) if target.split(".")[0] in ("servers", "clients")], path


def test_docker_is_imported_late():
    """It costs a quarter of a second that a native run has no use for."""
    top = {name(path): set(imports(path, top_only=True)) for path in HARNESS}
    for start in ("runner", "session", "cli", "store", "catalog", "loading", "deploy.native_backend"):
        reached: set[str] = set()
        waiting = [f"labs.harness.{start}"]
        while waiting:
            module = waiting.pop()
            if module not in reached:
                reached.add(module)
                waiting += top.get(module, ())
        docker = {module for module in reached if module.split(".")[0] == "docker"}
        assert not docker, f"{start} imports docker, by way of {[m for m in reached if docker & top.get(m, set())]}"


def test_the_task_file_is_quick_to_import():
    path = ROOT / "tasks.py"
    if not path.exists():
        pytest.skip("there is no tasks.py yet")
    ours = {target for target in imports(path, top_only=True) if target.split(".")[0] in ("labs", "servers", "clients")}
    assert ours <= {"labs.harness.errors", "labs.harness.cli"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_files_stay_short(folder):
    for path in (ROOT / folder).rglob("*.py"):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        most = 100 if path.name.endswith("_server.py") else 300
        assert lines <= most, f"{path.relative_to(ROOT)} has {lines} lines"


def test_no_file_shadows_the_standard_library():
    """A script's folder comes first on sys.path: a select.py beside it would be taken for the module."""
    inside_package_only = {ROOT / "labs" / "harness" / "platform.py"}  # never run as a script
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            if path not in inside_package_only:
                assert path.stem not in sys.stdlib_module_names, path
