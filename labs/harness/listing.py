"""What there is: labs, server models and whether they can run here, runs. Data for tables and for JSON."""

from __future__ import annotations

from collections.abc import Iterable

from labs.harness.availability import probe, why_unavailable
from labs.harness.catalog import ROOT, lab_folders, server_models
from labs.harness.errors import InputError
from labs.harness.events import Listener
from labs.harness.loading import load_lab
from labs.harness.model import Frozen, Lab, ServerModel
from labs.harness.platform import default_profile
from labs.harness.session import new_id, open_backend


class Availability(Frozen):
    """A server model, and whether it can run on a backend."""

    model: ServerModel
    available: bool
    why: str = ""
    """Why not, and what to do about it."""


def labs() -> list[Lab]:
    """Every lab, in the order of the course. Raises InputError for a lab.yaml with mistakes."""
    found = [load_lab(folder / "lab.yaml") for folder in lab_folders(ROOT).values()]
    return sorted(found, key=lambda lab: (lab.order, lab.name))


def chosen(name: str, all_of_them: bool) -> list[str]:
    """The names of the labs that lab.run is to run. Raises InputError where one is named beside --all."""
    if name and all_of_them:
        raise InputError(f"lab.run {name} --all: one lab, or all of them?", "both were asked for",
                         f"invoke lab.run {name}, or invoke lab.run --all")
    return [lab.name for lab in labs()] if all_of_them else [name]


def servers(on: str, listen: Listener) -> list[Availability]:
    """Every server model, with what a process on the backend can make of it."""
    models = server_models().values()
    requires: Iterable[str] = {name for model in models for name in model.requires}
    with open_backend(on, new_id("list"), listen) as (backend, _):
        facts = probe(backend, default_profile(backend.name), requires)
    reasons = {model.name: why_unavailable(model, facts) for model in models}
    return [Availability(model=model, available=not reasons[model.name], why=reasons[model.name] or "")
            for model in models]
