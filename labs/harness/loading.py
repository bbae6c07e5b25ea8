"""lab.yaml → Lab. Every mistake is reported at once, each with its line, its column and what was probably meant.

Three passes over one text: YAML nodes, which know where they stand; the model's own checks, without
any silent conversion ("5" is no number); and what only the whole can tell: names that refer to nothing.
The passes do not depend on each other's success, so one mistake does not hide the next.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from labs.harness.catalog import ROOT, did_you_mean, nearest, server_models
from labs.harness.errors import InputError
from labs.harness.marked import KEY, Path_, parse
from labs.harness.metrics import METRICS
from labs.harness.model import Cell, Claim, Experiment, Lab, Load, Timing

FILE = "lab.yaml"
Mistake = tuple[Path_, str]
"""Where in the document, and what is wrong there."""

EXPECTED = {
    "int_type": "a whole number", "int_from_float": "a whole number", "int_parsing": "a whole number",
    "float_type": "a number", "string_type": "text", "bool_type": "true or false", "tuple_type": "a list",
    "dict_type": "keys and values", "model_type": "keys and values", "model_attributes_type": "keys and values",
}
"""The types as the reader knows them, by pydantic's name of the mistake."""


def lesson_ids(root: Path = ROOT) -> dict[str, str]:
    """The lesson's claims: id → one sentence. Raises InputError where labs/lesson.yaml cannot be read."""
    path = root / "labs" / "lesson.yaml"
    try:
        ids = yaml.safe_load(path.read_text(encoding="utf-8"))["ids"]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise InputError(f"{_shown(path)} cannot be read", str(error)) from None
    return {str(key): str(sentence) for key, sentence in ids.items()}


def load_lab(path: Path, servers: Collection[str] | None = None, ids: Collection[str] | None = None) -> Lab:
    """The lab in a folder (or in its lab.yaml); its name is the folder's.

    servers: names of the server models there are; those of the catalogue, if left out.
    ids: the claims of the lesson; those of labs/lesson.yaml, if left out.
    Raises one InputError with all mistakes, sorted by place: "labs/x/lab.yaml:12:5: loads.ten.conections: unknown key".
    """
    file = path / FILE if path.is_dir() else path
    shown = _shown(file)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{shown} cannot be read", error.strerror or str(error)) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{shown} is no UTF-8 text", f"byte {error.start} cannot be decoded") from None

    document = parse(text)
    lab: Lab | None = None
    mistakes: list[Mistake] = []
    if not document.broken:
        mistakes += _references(document.data, server_models() if servers is None else servers,
                                lesson_ids() if ids is None else ids)
        lab, wrong = _validate(file.resolve().parent.name, document.data)
        known = {where for where, _ in mistakes} | {where for _, _, where, _ in document.mistakes}
        mistakes += [mistake for mistake in wrong if mistake[0] not in known]  # one mistake per place is enough
    located = [(*document.place(where), where, what) for where, what in mistakes] + document.mistakes
    if located or lab is None:
        lines = [f"{shown}:{line}:{column}: " + (f"{_dotted(where)}: " if where else "") + what
                 for line, column, where, what in sorted(located, key=lambda one: one[:2])]
        raise InputError(f"{shown} has {len(lines)} mistake" + ("" if len(lines) == 1 else "s"), "\n".join(lines))
    return lab


def _shown(path: Path) -> str:
    """From the project's root where the file lies in it."""
    path = path.resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.as_posix()


def _dotted(where: Path_) -> str:
    return ".".join(str(part) for part in where if part != KEY)


# --- what the model says ---------------------------------------------------------------------------------------------


def _validate(name: str, data: Any) -> tuple[Lab | None, list[Mistake]]:
    if not isinstance(data, dict):
        return None, [((), f"expected keys and values, not {_quoted(data)}")]
    mistakes: list[Mistake] = []
    if "name" in data:
        mistakes.append((("name", KEY), "unknown key; a lab is called as its folder is"))
    try:  # by way of JSON, because pydantic's strict mode takes a list for a tuple only there
        lab = Lab.model_validate_json(json.dumps({**data, "name": name}), strict=True)
        return (None if mistakes else lab), mistakes
    except ValidationError as error:
        return None, mistakes + list(_plain(error, name, data))


def _plain(error: ValidationError, name: str, data: Any) -> Iterator[Mistake]:
    """Pydantic's errors in the reader's words: one per place, whatever the alternatives of a union say of it."""
    types: dict[Path_, list[str]] = {}
    others: dict[Path_, str] = {}
    for one in error.errors():
        if one["loc"] == ("name",):
            others[()] = f"the folder's name '{name}' must be lower case letters and digits with hyphens between"
            continue
        where, value = _resolve(one["loc"], one["type"], data)
        if one["type"] == "too_short" and value:
            continue  # its items were wrong, not lacking
        if one["type"] in EXPECTED:
            types.setdefault(where, []).append(EXPECTED[one["type"]])
        else:
            others.setdefault(where, _message(dict(one), where, value))
    yield from others.items()
    for where, expected in types.items():
        if any(deeper[:len(where)] == where for deeper in (*others, *(key for key in types if key != where))):
            continue  # the mistake lies deeper; this is the other alternative complaining
        found = _value(where, data)
        yield where, f"expected {_either(expected)}, not {_quoted(found)}"


def _either(words: list[str]) -> str:
    """"text, a number or yes"."""
    *others, last = dict.fromkeys(words)
    return f"{', '.join(others)} or {last}" if others else last


def _resolve(loc: Path_, kind: str, data: Any) -> tuple[Path_, Any]:
    """The place in the document that an error's location means; names of a union's alternatives are passed over."""
    where: Path_ = ()
    for part in loc:
        if (part in data) if isinstance(data, dict) else isinstance(data, list) and isinstance(part, int):
            where, data = (*where, part), data[part]
    if kind == "missing":
        return (*where, loc[-1]), None
    return ((*where, KEY) if kind == "extra_forbidden" or loc[-1] == KEY else where), data


def _value(where: Path_, data: Any) -> Any:
    for part in where:
        data = data[part]
    return data


def _message(one: dict[str, Any], where: Path_, value: Any) -> str:
    context = one.get("ctx", {})
    match one["type"]:
        case "extra_forbidden":
            return f"unknown key{did_you_mean(str(where[-2]), _keys(where[:-2]))}"
        case "missing":
            return "is missing"
        case "literal_error":
            word = str(where[-2] if where[-1] == KEY else value)
            choices = context["expected"].replace("'", "").replace(" or ", ", ").split(", ")
            return f"expected {context['expected']}, not '{word}'{did_you_mean(word, choices)}"
        case "string_pattern_mismatch" if "program" in where:
            return "must be a Python file in the lab's folder, like 'two_sleepers.py'"
        case "string_pattern_mismatch" if "figures" in where:
            return "must be lower case letters and digits with underscores between, like 'both_seconds'"
        case "string_pattern_mismatch":
            return "must be lower case letters and digits with hyphens between, like 'ten-idle'"
        case "greater_than":
            return f"must be more than {context['gt']:g}, not {_quoted(value)}"
        case "greater_than_equal":
            return f"must be at least {context['ge']:g}, not {_quoted(value)}"
        case "less_than_equal":
            return f"must be at most {context['le']:g}, not {_quoted(value)}"
        case "too_short":
            return "must not be empty"
        case "value_error":
            return str(context["error"])
    return str(one["msg"])


def _keys(where: Path_) -> list[str]:
    """The keys that the mapping at a place may have."""
    model: type[BaseModel]
    match where:
        case ("loads", _):
            model = Load
        case ("experiments", _):
            model = Experiment
        case ("claims", _):
            model = Claim
        case ("claims", _, "of" | "against"):
            model = Cell
        case ("timing" | "quick",):
            model = Timing
        case _:
            model = Lab
    return [key for key in model.model_fields if not (model is Lab and key == "name")]


def _quoted(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return "a list" if isinstance(value, list) else "keys and values"
    return repr(value)


# --- what only the whole can tell ------------------------------------------------------------------------------------


def _references(data: Any, servers: Collection[str], ids: Collection[str]) -> Iterator[Mistake]:
    """Names that refer to nothing, claims that cannot be told apart, loads nobody uses; in whatever is well-formed."""
    loads = _mapping(_mapping(data).get("loads"))
    experiments = _mapping(_mapping(data).get("experiments"))
    claims = _mapping(data).get("claims")
    used: set[str] = set()

    def refer(where: Path_, name: Any, known: Collection[str], kind: str) -> Iterator[Mistake]:
        if isinstance(name, str) and name not in known:
            yield where, f"there is no {kind} '{name}'{did_you_mean(name, known)}"
            used.add(nearest(name, known) or "")  # it is probably meant, so it is not unused

    for name, load in loads.items():
        beside = _mapping(load).get("beside")
        for index, other in enumerate(beside if isinstance(beside, list) else []):
            where: Path_ = ("loads", name, "beside", index)
            if other == name:
                yield where, "a load cannot stand beside itself"
            else:
                yield from refer(where, other, loads, "load")
                used.add(str(other))

    for name, experiment in experiments.items():
        figures = _mapping(experiment).get("figures")
        for index, figure in enumerate(figures if isinstance(figures, list) else []):
            if figure in METRICS:
                yield ("experiments", name, "figures", index), f"'{figure}' is a metric; call the figure otherwise"

    keys: dict[str, int] = {}
    for index, claim in enumerate(claims if isinstance(claims, list) else []):
        claim = _mapping(claim)
        yield from refer(("claims", index, "id"), claim.get("id"), ids, "claim of the lesson with the id")
        figures = _mapping(experiments.get(_mapping(claim.get("of")).get("experiment"))).get("figures")
        yield from refer(("claims", index, "measure"), claim.get("measure"),
                         figures if isinstance(figures, list) else list(METRICS), "figure" if figures else "metric")
        for side in ("of", "against"):
            cell = _mapping(claim.get(side))
            yield from refer(("claims", index, side, "server"), cell.get("server"), servers, "server model")
            yield from refer(("claims", index, side, "load"), cell.get("load"), loads, "load")
            yield from refer(("claims", index, side, "experiment"), cell.get("experiment"), experiments, "experiment")
            used.update(str(value) for value in cell.values())  # under a misspelt key as well
        key = claim.get("name", claim.get("id"))
        if isinstance(key, str) and key in keys:
            field = "name" if "name" in claim else "id"
            yield ("claims", index, field), f"claim {keys[key] + 1} is called '{key}' too; give one another `name`"
        elif isinstance(key, str):
            keys[key] = index
    for kind, names in (("load", loads), ("experiment", experiments)):
        for name in names:
            if str(name) not in used:
                yield (f"{kind}s", name, KEY), f"no claim uses this {kind}"


def _mapping(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}

