"""The lab image, built for real: no network, only when its inputs change, and portable as a bundle."""

from __future__ import annotations

import uuid
from pathlib import Path

import docker
import pytest

from labs.harness import image_bases, images
from labs.harness.errors import InputError, MachineError


@pytest.fixture
def other_root(client: docker.APIClient, image: images.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources that no image was ever built of; their images are removed afterwards."""
    marker = f"MARK = {uuid.uuid4().hex!r}\n".encode()
    real = images.sources
    monkeypatch.setattr(images, "sources", lambda: {**real(), "servers/marker.py": marker})


def remove(client: docker.APIClient, tag: str) -> None:
    client.remove_image(tag, force=True)


def test_it_is_built_once_and_again_when_a_source_changes(
        client: docker.APIClient, image: images.Image, other_root: None) -> None:
    said: list[str] = []
    first = images.ensure(client, said.append)
    try:
        assert said == ["building the lab image"] and first.tag != image.tag
        again = images.ensure(client, said.append)
        assert again == first and len(said) == 1
        labels = client.inspect_image(first.tag)["Config"]["Labels"]
        assert labels["poller-lab.project"] == "poller-lab" and labels["poller-lab.owner"] == ""
        assert [row.tag for row in images.listing(client) if row.current and row.kind == "lab"] == [first.tag]
        assert not client.containers(all=True, filters={"ancestor": first.id})
    finally:
        remove(client, first.tag)


def test_own_python_needs_no_network(client: docker.APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """With pip, uv and every address out of reach, it makes a base that runs."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("UV_OFFLINE", "1")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1:9")
    tag = f"test-{uuid.uuid4().hex[:8]}"
    monkeypatch.setattr(image_bases, "REPOSITORY", f"poller-lab-{tag}")
    try:
        base = image_bases.from_own_python(client, "", lambda _: None)
    except MachineError as error:
        if "not Linux" in error.why:
            pytest.skip(error.why)
        raise
    container = client.create_container(base.tag, [
        "python3", "-c", "import hdrh.histogram, ssl, ctypes, asyncio, sqlite3, multiprocessing.pool; "
        "print(hdrh.histogram.HdrHistogram(1, 1000, 3).get_total_count(), hdrh.__file__)"],
        host_config=client.create_host_config(network_mode="none", read_only=True))
    try:
        client.start(container)
        code = client.wait(container)["StatusCode"]
        log = client.logs(container).decode()
        assert code == 0 and log.startswith("0 /"), log
    finally:
        client.remove_container(container, force=True)
        remove(client, base.tag)


def test_without_a_registry_the_reason_is_told_and_the_next_provider_asked(
        client: docker.APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def nothing(*_: object) -> image_bases.Base:
        raise MachineError("this machine's own Python makes no image", "it is a program for plan9")

    monkeypatch.setattr(image_bases, "from_own_python", nothing)
    monkeypatch.setattr(image_bases, "find", lambda *_: None)
    monkeypatch.setattr("platform.python_version_tuple", lambda: ("2", "99", "0"))  # no registry has this one
    with pytest.raises(MachineError, match="no base image can be had") as caught:
        image_bases.ensure(client, said.append)
    assert "python:2.99-slim" in said[0] and "plan9" in said[1]
    assert "image.load" in caught.value.try_this


def test_a_build_that_fails_shows_the_end_of_its_log(client: docker.APIClient, image: images.Image) -> None:
    dockerfile = b'ARG BASE\nFROM ${BASE}\nUSER 0\nRUN ["python3", "-c", "print(\'last words\'); 1/0"]\n'
    with pytest.raises(MachineError, match="cannot build") as caught:
        image_bases.build(client, "poller-lab-broken:x", {"Dockerfile": dockerfile}, {}, {"BASE": image.tag})
    assert "last words" in str(caught.value) and "ZeroDivisionError" in str(caught.value)
    with pytest.raises(docker.errors.ImageNotFound):
        client.inspect_image("poller-lab-broken:x")


def test_a_bundle_carries_both_layers(
        client: docker.APIClient, image: images.Image, other_root: None, tmp_path: Path) -> None:
    """Saved, removed and loaded, the lab image is there again; its base came along, to build the next one on."""
    bundle = tmp_path / "lab.tar"
    saved = images.save(bundle, client)
    remove(client, saved.tag)
    base = image_bases.ensure(client, lambda _: None)
    brought = images.load(bundle, client)
    try:
        assert {saved.tag, base.tag} <= set(brought)
        said: list[str] = []
        assert images.ensure(client, said.append) == saved and said == []
        assert not bundle.with_name("lab.tar.partial").exists()
    finally:
        remove(client, saved.tag)


def test_what_is_no_bundle_is_an_input_error(client: docker.APIClient, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        images.load(tmp_path / "nothing.tar", client)
    (tmp_path / "text.tar").write_text("hello" * 1000)
    with pytest.raises((InputError, MachineError), match=r"text\.tar"):
        images.load(tmp_path / "text.tar", client)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this OS has no /dev/full to stand for a full disk")
def test_a_full_disk_is_said_and_leaves_no_half_bundle(
        client: docker.APIClient, image: images.Image, tmp_path: Path) -> None:
    (tmp_path / "lab.tar.partial").symlink_to("/dev/full")
    with pytest.raises(MachineError, match="No space left on device"):
        images.save(tmp_path / "lab.tar", client)
    assert list(tmp_path.iterdir()) == []
