"""From what a user asked for to something that runs it: the choice of backend, its image, the order."""

from __future__ import annotations

import locale
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from labs.harness import store
from labs.harness.catalog import ROOT, did_you_mean, find_lab, server_models
from labs.harness.deploy.base import Backend
from labs.harness.deploy.choose import On, choose
from labs.harness.errors import ClaimFailed, InputError, ServerFailed
from labs.harness.events import Listener, Note
from labs.harness.loading import load_lab
from labs.harness.model import Lab, Language, Profile, Run, ServerModel
from labs.harness.platform import default_profile
from labs.harness.runner import Order, run_lab
from labs.harness.verdicts import fail_on as unwanted
from labs.harness.workbench import open_workbench

RESULTS = ROOT / "results"
ON: tuple[On, ...] = get_args(On)
URING = "servers.asynchronous.ring.IO_URING"
FAIL_ON = ("refuted", "inconclusive")
PROFILES: tuple[Profile, ...] = get_args(Profile)


def results_folder(word: str) -> Path:
    """The folder called `word`; for "" the project's own."""
    return Path(word) if word else RESULTS


def get_lab(name: str) -> Lab:
    """The lab called `name`. Raises InputError for an unknown name and for every mistake in its lab.yaml."""
    return load_lab(find_lab(ROOT, name) / "lab.yaml")


def language(word: str) -> Language:
    """The language called `word`; for "" the locale's, English where it is neither. Raises InputError."""
    known: tuple[Language, ...] = get_args(Language)
    if word:
        _one_of("--lang", word, known)
        return next(each for each in known if each == word)
    spoken = next(filter(None, map(os.environ.get, ("LC_ALL", "LC_MESSAGES", "LANG"))), "") or locale.getlocale()[0]
    return "zh" if (spoken or "").lower().startswith(("zh", "chinese")) else "en"


def handout(lab: Lab, language: Language = "en") -> str:
    """The lab's handout, in Markdown. Raises InputError where it has none."""
    folder = find_lab(ROOT, lab.name)
    for name in (f"handout.{language}.md", "handout.md"):
        if (folder / name).exists():
            return (folder / name).read_text("utf-8")
    raise InputError(f"lab {lab.name} has no handout", f"{folder / 'handout.md'} is missing")


@contextmanager
def open_backend(on: str, run_id: str, listen: Listener) -> Iterator[tuple[Backend, str]]:
    """The backend that `on` ("auto", "docker" or "native") asks for, entered, and why it is that one.

    Builds the lab image first where there is none yet. Raises InputError for another word, MachineError where Docker
    is asked for and does not answer.
    """
    _one_of("--on", on, ON)
    name, why = choose(next(word for word in ON if word == on))
    listen(Note(why))
    backend: Backend
    if name == "native":
        from labs.harness.deploy.native_backend import NativeBackend

        backend = NativeBackend(run_id)
    else:
        from labs.harness.deploy.docker_backend import DockerBackend
        from labs.harness.images import ensure

        backend = DockerBackend(run_id, ensure(progress=lambda text: listen(Note(text))))
    with backend:
        yield backend, why


@dataclass(frozen=True)
class Wish:
    """How a lab is to be run; the fields are the options of lab.run."""

    on: str = "auto"
    profile: str = ""
    quick: bool = False
    repeats: int = 0
    """0: as often as the lab says, counts twice, and undecided claims again; else exactly so often."""
    fail_on: str = ""
    results: Path = RESULTS

    def check(self) -> None:
        """Raises InputError for what makes no sense, before anything is started."""
        if self.repeats < 0:
            raise InputError(f"--repeats {self.repeats} makes no sense", "a cell is measured once or more often")
        _one_of("--fail-on", self.fail_on or "refuted", FAIL_ON)
        _one_of("--on", self.on, ON)
        check_profile(self.profile)


def _one_of(option: str, word: str, known: Sequence[str]) -> None:
    if word not in known:
        raise InputError(f"{option} {word}: there is no such choice{did_you_mean(word, known)}",
                         f"there are: {', '.join(known)}")


def check_profile(word: str, backend: str = "native") -> Profile:
    """The profile called `word`; for "" the backend's default. Raises InputError where there is none."""
    _one_of("--profile", word or "linux", PROFILES)
    return next((profile for profile in PROFILES if profile == word), default_profile(backend))


def profile_for(model: ServerModel, word: str, backend: str) -> Profile:
    """The profile called `word`; for "" the least one that has all a process of the model needs on the backend."""
    needs_more = URING in model.requires and backend == "docker"  # which an engine's own filter may block
    return check_profile(word or ("io-uring" if needs_more else ""), backend)


def new_id(what: str) -> str:
    """A run id, also for what is not the run of a lab."""
    return store.new_run_id(what)


def run(names: Sequence[str], wish: Wish, listen: Listener) -> Generator[Run, None, None]:
    """Runs the labs called `names`, one after the other on the same fleets. To be used up, or closed.

    Raises LabErrors, those of all lab.yaml files before anything is started; what was measured before one is in the
    results folder. A server that failed is reported by ServerFailed after everything else has been measured and saved.
    """
    wish.check()
    labs = [get_lab(name) for name in names]
    session_id = new_id(labs[0].name if len(labs) == 1 else "labs")
    models = server_models()
    requires = [name for model in models.values() for name in model.requires] if len(labs) > 1 else []
    with open_backend(wish.on, session_id, listen) as (backend, why), open_workbench(backend, requires) as bench:
        profile = check_profile(wish.profile, backend.name)
        for lab in labs:
            timing = lab.quick if wish.quick else lab.timing
            if wish.repeats:
                timing = timing.model_copy(update={"repeats": wish.repeats})
            run_id = session_id if len(labs) == 1 else new_id(lab.name)
            yield run_lab(Order(run_id, lab, models, profile, timing, wish.results, why, wish.quick,
                                bool(wish.repeats), listen), bench)


def find_run(name: str, results: Path = RESULTS) -> Path:
    """The folder of the run called `name`; "last" is the newest. Raises InputError where there is none."""
    known = [run.id for run in store.runs(results)]
    if name == "last" and known:
        return results / known[0]
    if Path(name).exists():
        return Path(name)
    if name not in known:
        raise InputError(f"there is no run '{name}'{did_you_mean(name, known)}", f"runs are kept in {results}",
                         "invoke lab.results lists them")
    return results / name


def demand(runs: Sequence[Run], fail_on: str) -> None:
    """Raises what finished runs must end with: ServerFailed for a server that failed, ClaimFailed for --fail-on."""
    if failed := [result for run in runs for result in run.results if result.failure]:
        first = failed[0]
        raise ServerFailed(first.failure or "", f"in trial {first.trial.number}, {first.trial.cell.label()}",
                           "the other trials are kept; its own claims are undecided", first.log)
    verdicts = [verdict for run in runs for verdict in run.verdicts]
    if fail_on and (bad := unwanted(verdicts, "refuted" if fail_on == "refuted" else "inconclusive")):
        raise ClaimFailed(f"--fail-on {fail_on}: " + ", ".join(f"{each.claim} is {each.outcome}" for each in bad))
