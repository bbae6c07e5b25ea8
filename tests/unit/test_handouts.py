"""Every handout says what is there: its claims and lesson ids exist, its links lead somewhere, both languages agree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from handouts import commands, handouts

from labs.harness.catalog import ROOT, lab_folders
from labs.harness.loading import lesson_ids, load_lab
from labs.harness.model import Lab

LABS = {name: load_lab(folder) for name, folder in lab_folders(ROOT).items()}
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
OFFICIAL = ("https://docs.python.org/", "https://man7.org/", "https://peps.python.org/", "https://www.kernel.org/",
            "https://docs.kernel.org/", "https://learn.microsoft.com/", "https://man.freebsd.org/",
            "https://github.com/python/cpython/", "https://www.rfc-editor.org/", "https://pubs.opengroup.org/",
            "https://kernel.dk/")


def text_of(folder: Path) -> list[Path]:
    return [path for path in handouts() if path.parent == folder]


def test_every_claim_of_the_lesson_is_put_to_the_test() -> None:
    tested = {claim.id for lab in LABS.values() for claim in lab.claims}
    assert tested == set(lesson_ids())


def test_every_claim_is_put_to_the_test_wherever_it_can_be() -> None:
    """Without epoll, fork or io_uring some test of each claim still runs, unless it is about just that."""
    needs = {"epoll-callback": "epoll"}
    for profile in ("windows", "macos"):
        for claim_id in set(lesson_ids()) - set(needs):
            assert any(possible(claim, profile) for lab in LABS.values() for claim in lab.claims
                       if claim.id == claim_id), f"{claim_id} is nowhere tested on {profile}"


LACKING = {"windows": {"epoll", "epoll-edge", "poll", "processes", "process-pool", "prefork-epoll",
                       "prefork-exclusive", "prefork-reuseport", "signal", "signal-recvfrom", "io-uring", "kqueue"},
           "macos": {"epoll", "epoll-edge", "prefork-epoll", "prefork-exclusive", "signal", "signal-recvfrom",
                     "io-uring", "proactor"}}


def possible(claim: object, profile: str) -> bool:
    from labs.harness.metrics import metric_of
    from labs.harness.model import Claim

    assert isinstance(claim, Claim)
    if claim.fact:
        return not isinstance(claim.equals, dict) or profile in claim.equals
    cells = claim.cells
    return not metric_of(claim.measure or "").traced and all(
        cell.server not in LACKING[profile] and cell.profile in (None, profile) for cell in cells)


@pytest.mark.parametrize("name", LABS)
def test_a_lab_has_a_handout_in_both_languages_with_the_same_commands(name: str) -> None:
    folder = lab_folders(ROOT)[name]
    english, chinese = folder / "handout.md", folder / "handout.zh.md"
    assert commands(english) and commands(english) == commands(chinese)
    assert re.search(r"[\u4e00-\u9fff]", chinese.read_text("utf-8"))


@pytest.mark.parametrize("path", handouts(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_a_handout_names_exists(path: Path) -> None:
    text = path.read_text("utf-8")
    lab: Lab = LABS[path.parent.name]
    keys = {claim.key for claim in lab.claims}
    named = set(re.findall(r"`claim:([^`]+)`", text))
    assert named, "a handout speaks of its claims"
    assert named <= keys, f"no such claim in lab.yaml: {named - keys}"
    assert set(re.findall(r"`lesson:([^`]+)`", text)) <= set(lesson_ids())
    for link in LINK.findall(text):
        if "://" in link:
            assert link.startswith(OFFICIAL), f"{link}: not one of the sources we link to"
        else:
            assert (path.parent / link.partition("#")[0]).exists(), f"{link} leads nowhere"


@pytest.mark.parametrize("name", LABS)
def test_a_lab_speaks_both_languages(name: str) -> None:
    lab = LABS[name]
    texts = [lab.title, lab.summary, *(claim.claim for claim in lab.claims),
             *(text for claim in lab.claims for text in claim.explain.values())]
    for text in texts:
        assert isinstance(text, dict) and set(text) == {"en", "zh"}, text
    for claim in lab.claims:
        assert claim.explain, f"{claim.key} explains nothing"
