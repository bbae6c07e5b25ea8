"""YAML whose parts know where they stand: plain data, plus line and column of every key and value.

Only what JSON can say is accepted: no tags, no objects, no dates; a key that occurs twice is a mistake
(YAML's own loader silently keeps the last).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import yaml

Path_ = tuple[int | str, ...]
"""Keys and indices from the top of the document; KEY at the end: the key itself instead of its value."""

KEY = "[key]"

Located = tuple[int, int, Path_, str]
"""Line and column from 1, place in the document, what is wrong."""

MOST_NODES = 20_000
"""Aliases can blow a small text up without end; no lab comes near this."""


class _Plain(yaml.SafeLoader):
    """YAML's scalars without dates: 2026-01-31 stays text."""


_Plain.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(("timestamp", ":merge", ":value"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()}

_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")}


@dataclass
class Document:
    """A parsed text: its data, what was wrong with it as YAML, and where everything stands."""

    data: Any = None
    mistakes: list[Located] = field(default_factory=list)
    broken: bool = False
    """Nothing could be read beyond the mistakes."""
    marks: dict[Path_, tuple[int, int]] = field(default_factory=dict)
    """Of a value: its own place."""
    keys: dict[Path_, tuple[int, int]] = field(default_factory=dict)
    """Of a value in a mapping: its key's place."""

    def place(self, where: Path_) -> tuple[int, int]:
        """Line and column of a scalar, of the key of anything larger, or of what a missing thing is missing from."""
        if where[-1:] == (KEY,):
            return self.keys.get(where[:-1]) or self.place(where[:-1])
        value = self.marks.get(where)
        key = self.keys.get(where)
        if key and (value is None or value[0] != key[0]):
            return key
        if value:
            return value
        return self.place(where[:-1]) if where else (1, 1)


def parse(text: str) -> Document:
    """The document; never raises: what is wrong stands in it."""
    document = Document()
    loader: yaml.SafeLoader | None = None
    try:
        loader = _Plain(text)  # refuses unprintable characters at once
        node = loader.get_single_node()
        if node is not None:
            document.data = _Walk(document, loader).value(node, (), ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        what = ", ".join(part for part in (error.context, error.problem) if part)
        document.mistakes.append((line, column, (), f"is not YAML: {what}"))
        document.broken = True
    except yaml.reader.ReaderError as error:
        before = text[:error.position]
        document.mistakes.append((before.count("\n") + 1, len(before) - before.rfind("\n"), (),
                                  "is not YAML: a character that cannot be printed"))
        document.broken = True
    except RecursionError:
        document.mistakes.append((1, 1, (), "is nested too deeply"))
        document.broken = True
    finally:
        if loader is not None:
            loader.dispose()
    return document


class _Walk:
    """Turns nodes into data, noting marks and mistakes."""

    def __init__(self, document: Document, loader: yaml.SafeLoader) -> None:
        self.document, self.loader, self.seen = document, loader, 0

    def wrong(self, node: yaml.Node, where: Path_, what: str) -> None:
        self.document.mistakes.append((*_start(node), where, what))

    def value(self, node: yaml.Node, where: Path_, above: tuple[yaml.Node, ...]) -> Any:
        self.document.marks[where] = _start(node)
        self.seen += 1
        if node in above or self.seen > MOST_NODES:
            why = "an alias that contains itself" if node in above else "too many aliases"
            raise yaml.MarkedYAMLError(problem=why, problem_mark=node.start_mark)
        if node.tag not in _TAGS:
            self.wrong(node, where, f"the tag {node.tag} is not supported here")
            return None
        above = (*above, node)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*where, index), above) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, where, above)
        try:
            value = self.loader.construct_object(node)
        except (yaml.YAMLError, ValueError):
            self.wrong(node, where, f"cannot read {node.value!r}")
            return None
        if isinstance(value, float) and not math.isfinite(value):
            self.wrong(node, where, "must be a finite number")
            return 1.0  # any number: this mistake is enough
        return value

    def mapping(self, node: yaml.MappingNode, where: Path_, above: tuple[yaml.Node, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self.value(key_node, (*where, KEY), above)
            if not isinstance(key, str):
                self.wrong(key_node, where, f"a key must be text, not {key_node.value!r}: put it in quotes"
                           if isinstance(key_node, yaml.ScalarNode) else "a key must be text")
                continue
            inner = (*where, key)
            if key in found:
                line = self.document.keys[inner][0]
                self.wrong(key_node, inner, f"the key is here twice, first in line {line}")
                continue
            self.document.keys[inner] = _start(key_node)
            found[key] = self.value(value_node, inner, above)
        return found


def _start(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1
