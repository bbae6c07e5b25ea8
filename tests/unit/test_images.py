"""What goes into an image, and when another one is due: no engine needed."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from labs.harness import image_bases, images, own_python
from labs.harness.errors import MachineError

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="an image takes Linux programs")
BASE = image_bases.Base("poller-lab-base:123", "sha256:1", "own Python", "3.11.7")


def entries(tree: own_python.Tree) -> dict[str, tarfile.TarInfo]:
    stream = io.BytesIO()
    tree.write(stream)
    stream.seek(0)
    with tarfile.open(fileobj=stream) as archive:
        return {"/" + entry.name: entry for entry in archive}


def test_a_digest_tells_parts_apart() -> None:
    assert image_bases.digest(b"ab", b"c") != image_bases.digest(b"a", b"bc")
    assert image_bases.digest(b"ab", b"c") == image_bases.digest(b"ab", b"c")


def test_the_image_takes_servers_clients_and_profiles_and_nothing_else() -> None:
    names = images.sources()
    assert {"servers/contract.py", "servers/probe.py", "images/profiles/sitecustomize.py"} <= set(names)
    assert "labs/select/one_socket.py" in names, "experiments run in containers as well"
    assert not [name for name in names if name.startswith(("labs/harness", "tests")) or "__pycache__" in name]


def test_the_tag_changes_with_a_source_its_name_and_the_base_and_with_nothing_else() -> None:
    files = {"servers/a.py": b"1", "servers/b.py": b"2"}
    tag = images.tag_for(BASE, files)
    assert tag == images.tag_for(BASE, dict(reversed(files.items())))
    other = image_bases.Base("poller-lab-base:456", *list(vars(BASE).values())[1:])
    changed = [images.tag_for(BASE, {**files, "servers/a.py": b"3"}), images.tag_for(other, files),
               images.tag_for(BASE, {"servers/a.py": b"1", "servers/c.py": b"2"})]
    assert len({tag, *changed}) == 4


def test_modules_are_compiled_for_this_python_only() -> None:
    here = ".".join(map(str, sys.version_info[:3]))
    files = {"servers/a.py": b"ANSWER = 42\n", "servers/being_written.py": b"def serve(:\n"}
    compiled = images._compiled(files, image_bases.Base("", "", "", here))
    ((name, data),) = compiled.items()
    assert name == f"servers/__pycache__/a.{sys.implementation.cache_tag}.pyc"
    import marshal

    scope: dict[str, object] = {}
    exec(marshal.loads(data[16:]), scope)  # after the header of 16 bytes (PEP 552)
    assert scope["ANSWER"] == 42 and data[4] == 1  # hash-based and unchecked
    assert images._compiled({"servers/a.py": b""}, image_bases.Base("", "", "", "2.7.18")) == {}


def test_everything_in_a_tree_is_readable_by_everyone(tmp_path: Path) -> None:
    secret = tmp_path / "tool"
    secret.write_text("x")
    secret.chmod(0o700)
    found = entries(own_python.Tree({"/root/bin/tool": secret, "/root/bin/link": "tool", "/etc/passwd": b"lab"},
                                    frozenset({"/tmp"})))
    assert found["/root"].mode == found["/root/bin"].mode == found["/root/bin/tool"].mode == 0o755
    assert found["/etc/passwd"].mode == 0o644 and found["/tmp"].mode == 0o1777
    assert found["/root/bin/link"].linkname == "tool"
    assert {entry.uid for entry in found.values()} == {0}


@linux_only
def test_the_tree_of_this_python_runs_in_its_own_root(tmp_path: Path) -> None:
    """Unpacked elsewhere and started by the loader that came along, it finds every library within itself."""
    python = own_python.Interpreter.of_this_machine()
    packages = tmp_path / "packages"
    packages.mkdir()
    own_python.install(image_bases.REQUIREMENTS, packages)
    tree = own_python.tree(python, packages)
    assert python.executable in tree.files and python.version == ".".join(map(str, sys.version_info[:3]))
    assert any(name.endswith("/hdrh/histogram.py") for name in tree.files)
    assert not [name for name in tree.files if "/test/" in name or "tkinter" in name or name.endswith(".a")]
    foreign = [name for name in tree.files if name.endswith(".pyc") and f".{python.cache}." not in name]
    assert foreign == []
    own = {Path(name).name for name in tree.files}
    needed = subprocess.run(["ldd", python.executable], capture_output=True, text=True).stdout
    assert {word for word in needed.split() if word.startswith("lib") and ".so" in word} <= own


@linux_only
def test_shared_objects_include_the_loader_and_exist() -> None:
    found = own_python.shared_objects([Path("/bin/sh").resolve()])
    assert any("ld-" in Path(name).name for name in found) and all(Path(name).is_absolute() for name in found)
    assert all(Path(name).exists() for name in found)


@pytest.mark.parametrize(("requirement", "copied"), [
    ("hdrhistogram", True), ("hdrhistogram>=0.1", True), ("hdrhistogram>=99", False), ("hdrhistogram<1", False),
    ("no-such-distribution", False)])
def test_only_what_satisfies_the_requirement_is_copied(tmp_path: Path, requirement: str, copied: bool) -> None:
    assert own_python._copy_installed(requirement, tmp_path) is copied
    assert (tmp_path / "hdrh" / "histogram.py").exists() is copied


def test_what_cannot_be_installed_is_named_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("UV_OFFLINE", "1")
    wanted = tmp_path / "requirements.txt"
    wanted.write_text("# none of these\nhdrhistogram>=0.1\nno-such-distribution>=1\n")
    with pytest.raises(MachineError, match="no-such-distribution") as caught:
        own_python.install(wanted, tmp_path / "target")
    assert "hdrhistogram" not in caught.value.what and caught.value.why
