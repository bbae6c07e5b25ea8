"""lab.yaml: what is right is loaded, and every mistake is found at once, in its place."""

import re
from pathlib import Path

import pytest

from labs.harness.errors import InputError
from labs.harness.loading import lesson_ids, load_lab

SERVERS = ("select", "blocking", "epoll")
IDS = ("one-watched", "many-watched", "poll-linux-only")
GOOD = """\
# yaml-language-server: $schema=../lab.schema.json
title: One thread
summary: {en: Many clients, zh: 许多客户}
loads:
  ten:
    connections: 10
    beside: [crowd]
  crowd: {connections: 500, active: 0}
claims:
  - id: one-watched
    claim: It costs more.
    measure: cpu_us_per_request
    of: {server: select, load: ten}
    against:
      server: blocking
      load: ten
    at_least: 1
    explain:
      holds: Three calls instead of two.
  - id: poll-linux-only
    claim: Only Linux has it.
    fact: poll
    equals: {linux: true, macos: false}
"""


@pytest.fixture
def lab(tmp_path):
    def read(text, name="my-lab"):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "lab.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_lab(folder, SERVERS, IDS)
    return read


@pytest.fixture
def mistakes(lab):
    """The lines of the error, without the file's name."""
    def read(text, **more):
        with pytest.raises(InputError) as caught:
            lab(text, **more)
        lines = caught.value.why.split("\n")
        count = len(lines)
        assert caught.value.what.endswith(f"/lab.yaml has {count} mistake" + "s" * (count != 1))
        places = [tuple(map(int, re.search(r"lab\.yaml:(\d+):(\d+): ", line).groups())) for line in lines]
        assert places == sorted(places)
        return [line.partition("lab.yaml:")[2] for line in lines]
    return read


def changed(old, new):
    assert GOOD.count(old) >= 1
    return GOOD.replace(old, new, 1)


def test_a_good_lab(lab):
    one = lab(GOOD)
    assert one.name == "my-lab" and one.loads["ten"].beside == ("crowd",) and one.claims[0].at_least == 1.0
    assert one.claims[1].equals == {"linux": True, "macos": False}
    cells = one.claims[0].cells_on("linux")
    assert [cell.label() for cell in cells] == ["select × ten on linux", "blocking × ten on linux"]


@pytest.mark.parametrize(("old", "new", "expected"), [
    ("    connections: 10\n", "    conections: 10\n",
     "6:5: loads.ten.conections: unknown key; did you mean 'connections'?"),
    ("connections: 10\n", "connections: banana\n",
     "6:18: loads.ten.connections: expected a whole number, not 'banana'"),
    ("connections: 10\n", "connections: '10'\n", "6:18: loads.ten.connections: expected a whole number, not '10'"),
    ("connections: 10\n", "connections: true\n", "6:18: loads.ten.connections: expected a whole number, not true"),
    ("connections: 10\n", "connections: 1.5\n", "6:18: loads.ten.connections: expected a whole number, not 1.5"),
    ("connections: 10\n", "connections:\n", "6:17: loads.ten.connections: expected a whole number, not nothing"),
    ("connections: 10\n", "connections: 0\n", "6:18: loads.ten.connections: must be at least 1, not 0"),
    ("active: 0", "active: 501", "8:10: loads.crowd: active (501) is more than connections (500)"),
    ("at_least: 1", "at_least: .nan", "17:15: claims.0.at_least: must be a finite number"),
    ("at_least: 1", "at_least: no", "17:15: claims.0.at_least: expected a number, not false"),
    ("title: One thread", "titel: One thread", "2:1: titel: unknown key; did you mean 'title'?"),
    ("title: One thread", "title: 2026-01-31\nname: x", "3:1: name: unknown key; a lab is called as its folder is"),
    ("title: One thread", "title: 5", "2:8: title: expected text or keys and values, not 5"),
    ("zh: 许多客户", "fr: Beaucoup", "3:29: summary.fr: expected 'en' or 'zh', not 'fr'"),
    ("[crowd]", "[crowds]", "7:14: loads.ten.beside.0: there is no load 'crowds'; did you mean 'crowd'?"),
    ("[crowd]", "[crowd, ten]", "7:21: loads.ten.beside.1: a load cannot stand beside itself"),
    ("[crowd]", "crowd", "7:13: loads.ten.beside: expected a list, not 'crowd'"),
    ("server: select", "server: selct",
     "13:18: claims.0.of.server: there is no server model 'selct'; did you mean 'select'?"),
    ("load: ten}", "load: tenn}", "13:32: claims.0.of.load: there is no load 'tenn'; did you mean 'ten'?"),
    ("load: ten}", "load: ten, profile: poll}", "13:46: claims.0.of.profile: expected 'linux',"),
    ("cpu_us_per", "cpu_ms_per", "12:14: claims.0.measure: there is no metric 'cpu_ms_per_request'; did you mean"),
    ("id: one-watched", "id: one-watchd",
     "10:9: claims.0.id: there is no claim of the lesson with the id 'one-watchd'; did"),
    ("    at_least: 1\n", "", "10:5: claims.0: `measure` needs one threshold"),
    ("  - id: one-watched\n", "  - name: x\n", "10:5: claims.0.id: is missing"),
    ("holds:", "hold:", "19:7: claims.0.explain.hold: expected 'holds',"),
    ("title: One thread", "title: One thread\ntitle: Two", "3:1: title: the key is here twice, first in line 2"),
    ("    connections: 10", "    connections: 10\n    connections: 11",
     "7:5: loads.ten.connections: the key is here twice"),
    ("  crowd:", "  spare: {}\n  crowd:", "8:3: loads.spare: no claim uses this load"),
    ("title: One thread", "title: !!python/name:os.system x", "2:8: title: the tag"),
    ("title: One thread", "title: x\n5: x", "3:1: a key must be text, not '5'"),
    ("    equals: {linux: true, macos: false}", "    equals: 1.5", "23:13: claims.1.equals: expected"),
])
def test_one_mistake_and_its_place(mistakes, old, new, expected):
    found = mistakes(changed(old, new))
    assert any(line.startswith(expected) for line in found), found
    crowd_unused = "beside: crowd" in changed(old, new)
    title_missing = "titel" in new  # what is misspelt is missing as well
    assert len(found) == 1 + title_missing + crowd_unused


def test_five_mistakes_give_five_messages(mistakes):
    text = GOOD
    for old, new in (("connections: 10", "conections: 10"), ("active: 0", "active: banana"), ("select,", "selekt,"),
                     ("measure: cpu_us", "measure: cpu_su"), ("equals: {linux: true", "equals: {linx: true")):
        assert old in text
        text = text.replace(old, new, 1)
    found = mistakes(text)
    assert [line.split(":")[0] for line in found] == ["6", "8", "12", "13", "23"]
    assert sum("did you mean" in line for line in found) == 4


def test_two_claims_of_one_name(mistakes):
    twice = GOOD + "  - {id: poll-linux-only, claim: x, fact: poll, equals: true}\n"
    assert mistakes(twice) == ["24:10: claims.2.id: claim 2 is called 'poll-linux-only' too; give one another `name`"]
    named = GOOD + "  - {id: many-watched, name: one-watched, claim: x, fact: poll, equals: true}\n"
    assert mistakes(named)[0].startswith("24:30: claims.2.name: claim 1 is called")


def test_a_fact_and_a_metric_exclude_each_other(mistakes):
    both = changed("    measure: cpu", "    fact: poll\n    measure: cpu")
    assert mistakes(both)[0].startswith("10:5: claims.0: a claim needs either `measure`")


@pytest.mark.parametrize(("text", "expected"), [
    ("title: [1, 2\nsummary: x\n", "2:8: is not YAML"), ("title: x\n\tsummary: x\n", "2:1: is not YAML"),
    ("title: x\n---\ntitle: y\n", "2:1: is not YAML"), ("a: *b\n", "1:4: is not YAML"),
    ("a: \x07\n", "1:4: is not YAML"),
    ("a: &a [*a]\n", "1:4: is not YAML: an alias that contains itself"),
    ("", "1:1: expected keys and values, not nothing"),
    ("- a\n", "1:1: expected keys and values, not a list"), ("claims: []\n", "1:9: claims: must not be empty"),
    ("[" * 5000, "is nested too deeply")])
def test_broken_yaml(mistakes, text, expected):
    assert any(expected in line for line in mistakes(text))


def test_aliases_that_blow_up_are_stopped(mistakes):
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 30))
    assert "too many aliases" in mistakes(bomb)[0]


def test_an_alias_is_fine(lab):
    text = changed("of: {server: select, load: ten}", "of: &cell {server: select, load: ten}")
    assert lab(text.replace("against:\n      server: blocking\n      load: ten", "against: *cell")).claims[0].against


def test_the_folders_name_is_the_labs(mistakes):
    assert "the folder's name 'My Lab'" in mistakes(GOOD, name="My Lab")[0]


def test_files_that_cannot_be_read(tmp_path, lab):
    with pytest.raises(InputError, match="cannot be read"):
        load_lab(tmp_path / "none" / "lab.yaml", SERVERS, IDS)
    with pytest.raises(InputError, match="UTF-8"):
        lab(b"title: \xff\n")
    assert lab(b"\xef\xbb\xbf" + GOOD.encode()).title == "One thread"  # Windows' editors write this mark


def test_no_jargon(mistakes):
    text = ("title: [x]\nsummary: {en: 5}\norder: x\ntiming: 3\nprofiles: linux\nloads: []\nclaims: {}\n"
            "quick: {repeats: 101}\n")
    found = mistakes(text)
    assert len(found) == 8
    assert not re.search(r"(?i)pydantic|valid |input|tuple|dict|integer|string|instance|type=", "\n".join(found))


def test_the_lessons_ids():
    ids = lesson_ids()
    assert len(ids) == 20 and {"two-phases", "scan-delay", "async-frameworks"} <= set(ids)
    assert all(sentence.endswith(".") for sentence in ids.values())


def test_the_lessons_ids_are_required(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        lesson_ids(tmp_path)


def test_the_projects_own_labs_load():
    for path in sorted(Path(__file__).parents[2].glob("labs/*/lab.yaml")):
        assert load_lab(path).name == path.parent.name
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        assert first == "# yaml-language-server: $schema=../lab.schema.json"


EXPERIMENT = """title: X
summary: X
experiments:
  sleepers: {program: sleepers.py, figures: [both_seconds]}
claims:
  - {id: one-watched, claim: x, measure: both_seconds, of: {experiment: sleepers}, at_most: 1.5}
"""


def test_an_experiment_and_its_mistakes(lab):
    assert lab(EXPERIMENT).experiments["sleepers"].program == "sleepers.py"
    for old, new, message in (
            ("figures: [both_seconds]", "figures: [threads, both_seconds]", "'threads' is a metric"),
            ("measure: both_seconds", "measure: both_second", "there is no figure 'both_second'; did you mean"),
            ("{experiment: sleepers}", "{experiment: sleeper}", "there is no experiment 'sleeper'; did you mean"),
            ("{experiment: sleepers}", "{experiment: sleepers, server: select}", "needs either"),
            ("program: sleepers.py", "program: ../sleepers.py", "must be a Python file in the lab's folder")):
        with pytest.raises(InputError) as error:
            lab(EXPERIMENT.replace(old, new))
        assert message in str(error.value), error.value
