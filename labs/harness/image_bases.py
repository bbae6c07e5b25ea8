"""Base images: Python and the third-party packages. Several providers, tried in order until one can.

Every base carries labels that say what it was made of, so that one is made only when there is none:
whether it was built here, or came in a bundle, makes no difference.
"""

from __future__ import annotations

import hashlib
import io
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import docker.errors
import requests.exceptions

from labs.harness import own_python
from labs.harness.catalog import ROOT
from labs.harness.deploy.engine import explained
from labs.harness.deploy.ownership import PROJECT, PROJECT_LABEL
from labs.harness.errors import MachineError

REQUIREMENTS = ROOT / "images" / "requirements.txt"
DOCKERFILE = ROOT / "images" / "base.Dockerfile"
REPOSITORY = "poller-lab-base"
KIND_LABEL, INPUTS_LABEL = "poller-lab.image", "poller-lab.inputs"
PYTHON_LABEL, PROVIDER_LABEL = "poller-lab.python", "poller-lab.provider"
REGISTRY_SECONDS = 4
LOG_LINES = 15
PIECE_BYTES = 2**20

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Base:
    """A base image that is there."""

    tag: str
    id: str
    provider: str
    """"registry" or "own Python"."""
    python: str


def digest(*parts: bytes) -> str:
    """Twelve hex digits that change when any part changes or moves into its neighbour."""
    sums = hashlib.sha256()
    for part in parts:
        sums.update(len(part).to_bytes(8, "big") + part)
    return sums.hexdigest()[:12]


def inputs() -> str:
    """What every base of this checkout has in common: the packages asked for, and how it is made."""
    return digest(*(path.read_bytes().replace(b"\r\n", b"\n") for path in (
        REQUIREMENTS, DOCKERFILE, Path(own_python.__file__))), architecture().encode())


def architecture() -> str:
    """The machine's, as Linux calls it: macOS and Windows have names of their own for the same two."""
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())


def find(client: docker.APIClient, python: str = "") -> Base | None:
    """A base with this checkout's inputs that has Python `python` ("3.11", "3.11.7"; any if left out)."""
    with explained("cannot look for images"):
        images = client.images(filters={"label": [f"{KIND_LABEL}=base", f"{INPUTS_LABEL}={inputs()}"]})
    for image in images:
        labels = image["Labels"] or {}
        tags = [tag for tag in image["RepoTags"] or () if tag.startswith(REPOSITORY + ":")]
        if tags and (labels[PYTHON_LABEL] + ".").startswith(python + "." if python else ""):
            return Base(tags[0], image["Id"], labels[PROVIDER_LABEL], labels[PYTHON_LABEL])
    return None


def ensure(client: docker.APIClient, progress: Progress, force: bool = False) -> Base:
    """A base image: one already there, else from a registry, else this machine's own Python, else any that will do.

    Raises MachineError with the reason of every provider that could not.
    """
    minor = ".".join(platform.python_version_tuple()[:2])
    if not force:
        # One from a registry has no say in its last digit; one of this machine's Python follows its updates.
        found = find(client, minor)
        if found and (found.provider == "registry" or found.python == platform.python_version()):
            return found
        if found := find(client, platform.python_version()):
            return found
    whys = []
    for provide in (from_registry, from_own_python):
        try:
            return provide(client, minor, progress)
        except MachineError as error:
            whys.append(f"{error.what} ({error.why})" if error.why else error.what)
            progress(whys[-1])
    if found := find(client):
        progress(f"using the base that is there, with Python {found.python}")
        return found
    raise MachineError("no base image can be had", "; ".join(whys),
                       "connect to a network, or bring a bundle: invoke image.save there, invoke image.load here")


def from_registry(client: docker.APIClient, minor: str, progress: Progress) -> Base:
    """The official slim image with the packages on top. Raises MachineError where no registry answers soon."""
    official = f"python:{minor}-slim"
    try:
        client.inspect_image(official)
    except docker.errors.ImageNotFound:
        _ask_registry(client, official)
        progress(f"fetching {official}")
        with explained(f"cannot fetch {official}"):
            for event in client.pull("python", tag=f"{minor}-slim", stream=True, decode=True):
                if "error" in event:
                    raise MachineError(f"cannot fetch {official}", event["error"]) from None
    progress(f"building the base image on {official}")
    tag = f"{REPOSITORY}:{digest(inputs().encode(), official.encode())}"
    files = {"Dockerfile": DOCKERFILE.read_bytes(), "requirements.txt": REQUIREMENTS.read_bytes()}
    build(client, tag, files, _labels("registry", minor), {"PYTHON": official})
    return _made(client, tag, "registry", minor)


def _ask_registry(client: docker.APIClient, reference: str) -> None:
    """Raises MachineError unless a registry has `reference`. A pull would wait for minutes without a network."""
    patience = client.timeout
    client.timeout = REGISTRY_SECONDS
    try:
        client.inspect_distribution(reference)
    except (docker.errors.DockerException, requests.exceptions.RequestException, OSError) as error:
        why = str(getattr(error, "explanation", None) or error).strip().rpartition(": ")[2][:120]
        raise MachineError(f"no registry answers for {reference}", why) from None
    finally:
        client.timeout = patience


def from_own_python(client: docker.APIClient, minor: str, progress: Progress) -> Base:
    """This machine's Python in an otherwise empty image; no network needed. Raises MachineError but on Linux."""
    del minor
    if sys.platform != "linux":
        raise MachineError("this machine's own Python makes no image", f"it is a program for {sys.platform}, not Linux")
    python = own_python.Interpreter.of_this_machine()
    progress(f"building the base image from this machine's Python {python.version}")
    tag = f"{REPOSITORY}:{digest(inputs().encode(), python.version.encode(), python.executable.encode())}"
    labels = _labels("own Python", python.version)
    changes = [f"LABEL {' '.join(f'{name}={chr(34)}{value}{chr(34)}' for name, value in labels.items())}",
               f"ENV PATH={Path(python.executable).parent}:/usr/local/bin:/usr/bin:/bin"]
    with tempfile.TemporaryDirectory(prefix="poller-lab-") as folder, tempfile.TemporaryFile() as archive:
        try:
            packages = Path(folder)
            own_python.install(REQUIREMENTS, packages)
            own_python.tree(python, packages).write(archive)
        except OSError as error:
            raise MachineError("cannot gather this machine's Python", str(error)) from error
        archive.seek(0)
        with explained("the engine does not take the base image"):
            name, _, version = tag.partition(":")
            # An import, not a build: one layer, and no builder that differs between engines.
            # In pieces: docker-py says "chunked" for every stream, and only an iterator is then sent so.
            pieces = iter(lambda: archive.read(PIECE_BYTES), b"")
            answer = client.import_image_from_stream(pieces, repository=name, tag=version, changes=changes)
        if '"error"' in answer:
            raise MachineError("the engine does not take the base image", answer.strip()[-500:])
    return _made(client, tag, "own Python", python.version)


def _labels(provider: str, python: str) -> dict[str, str]:
    return {PROJECT_LABEL: PROJECT, KIND_LABEL: "base", INPUTS_LABEL: inputs(), PROVIDER_LABEL: provider,
            PYTHON_LABEL: python}


def _made(client: docker.APIClient, tag: str, provider: str, python: str) -> Base:
    with explained(f"{tag} was built, but is not there"):
        return Base(tag, str(client.inspect_image(tag)["Id"]), provider, python)


def build(client: docker.APIClient, tag: str, files: Mapping[str, bytes], labels: Mapping[str, str],
          arguments: Mapping[str, str]) -> None:
    """Builds `tag` from a Dockerfile among `files` (path in the context → content).

    Raises MachineError with the last lines of the build's log.
    """
    log: list[str] = []
    with explained(f"cannot build {tag}"):
        for event in _events(client, tag, files, labels, arguments):
            log += [line for line in str(event.get("stream", "")).splitlines() if line.strip()]
            if "error" in event:
                mend = "make room on the engine's disk" if "no space left" in event["error"] else ""
                tail = "".join(f"\n  | {line}" for line in log[-LOG_LINES:])
                raise MachineError(f"cannot build {tag}", f"{event['error']}{tail}", mend)


def _events(client: docker.APIClient, tag: str, files: Mapping[str, bytes], labels: Mapping[str, str],
            arguments: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    yield from client.build(fileobj=io.BytesIO(archive_of(files)), custom_context=True, tag=tag, labels=dict(labels),
                            rm=True, forcerm=True, buildargs=dict(arguments), decode=True)


def archive_of(files: Mapping[str, bytes]) -> bytes:
    """A tar archive of `files` (path → content), readable by everyone."""
    made = io.BytesIO()
    own_python.Tree({f"/{name}": content for name, content in files.items()}).write(made)
    return made.getvalue()
