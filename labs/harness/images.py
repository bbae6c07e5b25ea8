"""The lab image: servers, fleet and profiles on a base image. Built when what goes into it has changed, not before.

An image's tag is the digest of its inputs, so "is it up to date?" is "is the tag there?".
"""

from __future__ import annotations

import importlib.util
import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path

import docker
import docker.errors

from labs.harness import image_bases
from labs.harness.deploy.engine import connect, explained
from labs.harness.deploy.ownership import (
    OWNER_LABEL,
    PROJECT,
    PROJECT_LABEL,
    ROLE_LABEL,
    interrupts_held,
    this_task,
)
from labs.harness.errors import InputError, MachineError
from labs.harness.image_bases import (
    INPUTS_LABEL,
    KIND_LABEL,
    PROVIDER_LABEL,
    PYTHON_LABEL,
    ROOT,
    Base,
    Progress,
    digest,
)

REPOSITORY = "poller-lab"
FOLDERS = ("servers", "clients", "images/profiles", "images/tracer")
"""What goes into the image, below /lab: every Python file in them, and the experiments of the labs."""
FOLDER = "/lab"
USER = "10001:10001"
FORMAT = b"1"
"""To be changed with how `_put_together` makes an image."""
CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class Image:
    """A lab image that is there, ready to run."""

    tag: str
    id: str
    """The engine's content digest: "sha256:…"."""
    provider: str
    """Where its base came from: "registry" or "own Python"."""
    python: str


@dataclass(frozen=True)
class Listed:
    """One row of `listing()`."""

    tag: str
    kind: str
    """"lab" or "base"."""
    id: str
    provider: str
    python: str
    megabytes: int
    current: bool
    """Whether it is the one that this checkout would use."""


def _silent(_: str) -> None:
    pass


def sources(root: Path = ROOT) -> dict[str, bytes]:
    """Path in the image, below /lab → content, of everything that goes into it."""
    files = [path for folder in FOLDERS for path in sorted((root / folder).rglob("*.py"))]
    files += [path for path in sorted((root / "labs").glob("*/*.py")) if path.parent.name != "harness"]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def tag_for(base: Base, files: dict[str, bytes]) -> str:
    """The tag of the lab image made of `files` on `base`."""
    parts = [part for name, content in sorted(files.items()) for part in (name.encode(), content)]
    return f"{REPOSITORY}:{digest(base.tag.encode(), FORMAT, *parts)}"


def ensure(client: docker.APIClient | None = None, progress: Progress = _silent, force: bool = False) -> Image:
    """The lab image of this checkout, built if it is not there. `progress` is told what takes time.

    Raises MachineError: no engine, no base to be had, a build that fails (with the end of its log), a full disk.
    """
    client = client or connect()
    base = image_bases.ensure(client, progress, force)
    files = sources()
    tag = tag_for(base, files)
    if not force:
        try:
            with explained("cannot look for images"):
                return _image(client, tag)
        except MachineError as error:
            if not isinstance(error.__cause__, docker.errors.ImageNotFound):
                raise
    progress("building the lab image")
    _put_together(client, base, tag, files)
    with explained(f"{tag} was built, but is not there"):
        return _image(client, tag)


def _put_together(client: docker.APIClient, base: Base, tag: str, files: dict[str, bytes]) -> None:
    """Copies the files into a container of the base that never runs, and keeps that as an image.

    The same as a Dockerfile with one COPY, in a third of the time, and without a builder that differs
    from engine to engine. Raises MachineError.
    """
    labels = {PROJECT_LABEL: PROJECT, KIND_LABEL: "lab", INPUTS_LABEL: tag.rpartition(":")[2],
              PROVIDER_LABEL: base.provider, PYTHON_LABEL: base.python}
    # A commit keeps the container's labels. The image belongs to nobody, nor do containers that users make of it.
    labels |= {OWNER_LABEL: "", ROLE_LABEL: ""}
    changes = [*(f'LABEL {name}="{value}"' for name, value in labels.items()), f"USER {USER}", f"WORKDIR {FOLDER}",
               f"ENV PYTHONPATH={FOLDER}:{FOLDER}/images/profiles PYTHONDONTWRITEBYTECODE=1"]
    content = {f"{FOLDER.lstrip('/')}/{name}": data for name, data in {**files, **_compiled(files, base)}.items()}
    with explained("cannot build the lab image"), interrupts_held():
        container = client.create_container(base.tag, ["python3"], labels={
            PROJECT_LABEL: PROJECT, ROLE_LABEL: "image", OWNER_LABEL: this_task()})["Id"]
        try:
            client.put_archive(container, "/", image_bases.archive_of(content))
            repository, _, version = tag.partition(":")
            client.commit(container, repository, version, changes=changes)
        finally:
            client.remove_container(container, force=True)


def build(force: bool = False, progress: Progress = _silent) -> Image:
    """As `ensure`, with an engine of its own finding; `force` builds both layers anew."""
    return ensure(connect(), progress, force)


def _image(client: docker.APIClient, tag: str) -> Image:
    found = client.inspect_image(tag)
    labels = found["Config"]["Labels"]
    return Image(tag, found["Id"], labels[PROVIDER_LABEL], labels[PYTHON_LABEL])


def _compiled(files: dict[str, bytes], base: Base) -> dict[str, bytes]:
    """Compiled modules for `files`, as a read-only root can keep none. Only for this Python: others can't be made."""
    if base.python.split(".")[:2] != platform.python_version().split(".")[:2]:
        return {}
    import py_compile

    compiled = {}
    with tempfile.TemporaryDirectory(prefix="poller-lab-") as folder:
        source, target = Path(folder, "module.py"), Path(folder, "module.pyc")
        for name, content in files.items():
            source.write_bytes(content)
            # Unchecked: nothing in the image ever changes, so no start need compare it with its source.
            try:
                py_compile.compile(str(source), str(target), dfile=f"/lab/{name}", doraise=True,
                                   invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
            except py_compile.PyCompileError:
                continue  # a slip in one server is that server's to tell, when it is started
            compiled[Path(importlib.util.cache_from_source(name)).as_posix()] = target.read_bytes()
    return compiled


def listing(client: docker.APIClient | None = None) -> list[Listed]:
    """Every image of this project that the engine has, newest first. Raises MachineError."""
    client = client or connect()
    base = image_bases.find(client)
    wanted = {base.tag, tag_for(base, sources())} if base else set()
    with explained("cannot list the images"):
        found = client.images(filters={"label": [f"{PROJECT_LABEL}={PROJECT}", KIND_LABEL]})
    rows = []
    for image in sorted(found, key=lambda image: -image["Created"]):
        labels = image["Labels"]
        for tag in (tag for tag in image["RepoTags"] or () if tag != "<none>:<none>"):
            rows.append(Listed(tag, labels[KIND_LABEL], image["Id"], labels.get(PROVIDER_LABEL, ""),
                               labels.get(PYTHON_LABEL, ""), round(image["Size"] / 1e6), tag in wanted))
    return rows


def save(path: Path, client: docker.APIClient | None = None, progress: Progress = _silent) -> Image:
    """Writes the lab image and its base to one file, a bundle for a room without a network. Raises MachineError."""
    client = client or connect()
    image = ensure(client, progress)
    base = image_bases.ensure(client, progress)
    progress(f"writing {path}")
    partial = path.with_name(path.name + ".partial")
    try:
        with explained("cannot read the image from the engine"):
            # docker-py's get_image takes one name only; the engine's API takes several.
            answer = client.get(f"{client.base_url}/v{client.api_version}/images/get", stream=True,
                                params={"names": [base.tag, image.tag]}, timeout=client.timeout)
            answer.raise_for_status()
            try:
                with partial.open("wb") as file:
                    for chunk in answer.iter_content(CHUNK_BYTES):
                        file.write(chunk)
                partial.replace(path)
            except OSError as error:
                raise MachineError(f"cannot write {path}", str(error), "choose a place with more room") from error
    finally:
        partial.unlink(missing_ok=True)
    return image


def load(path: Path, client: docker.APIClient | None = None, progress: Progress = _silent) -> list[str]:
    """Reads a bundle into the engine; returns the tags it brought. Raises InputError for what is no bundle."""
    client = client or connect()
    progress(f"reading {path}")
    brought: list[str] = []
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"cannot read {path}", str(error), "invoke image.save writes such a file") from None
    with file, explained(f"the engine does not take {path} as an image bundle"):
        for event in client.load_image(file):
            if "error" in event:
                raise MachineError(f"the engine does not take {path} as an image bundle", str(event["error"]))
            said = str(event.get("stream", ""))
            if "Loaded image: " in said:
                brought.append(said.partition("Loaded image: ")[2].strip())
    if not any(tag.startswith(f"{REPOSITORY}:") for tag in brought):
        raise InputError(f"{path} holds no image of this lab", f"it brought {', '.join(brought) or 'nothing'}",
                         "invoke image.save writes such a file")
    return brought


