"""What the Invoke tasks need of a command line that Invoke has not: errors without tracebacks, checked names."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

from invoke import Collection
from invoke.exceptions import Exit
from invoke.parser import Argument
from invoke.tasks import Task, task

from labs.harness.errors import InputError, LabError

INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


class OneOrAll(Task[Any]):
    """A task whose positional `name` is not needed where its flag `all` is given.

    Invoke has no optional positionals: it asks for one as long as its value is None. So the value is "" with --all.
    """

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        arguments = super().get_arguments(ignore_unknown_help)
        named = {argument.name: argument for argument in arguments}
        named["name"].__class__ = _UnlessAll
        named["name"].all_flag = named["all"]  # type: ignore[attr-defined]
        return arguments


class _UnlessAll(Argument):
    all_flag: Argument

    @property
    def value(self) -> Any:
        return "" if self._value is None and self.all_flag.value else self._value

    @value.setter
    def value(self, given: str) -> None:
        self.set_value(given, cast=True)


def command(**options: Any) -> Callable[[Callable[..., Any]], Task[Any]]:
    """Invoke's @task, with our manners: long options only, and a LabError becomes a message and an exit code."""

    def decorate(body: Callable[..., Any]) -> Task[Any]:
        @functools.wraps(body)
        def shielded(*arguments: Any, **named: Any) -> Any:
            _printable()
            try:
                for word in (*arguments[1:], *named.values()):
                    if isinstance(word, str) and word.startswith("-"):
                        raise InputError(f"'{word}' is no name here",
                                         "an option of the task was taken for its first argument",
                                         f"invoke --help {body.__name__.replace('_', '.', 1)}")
                return body(*arguments, **named)
            except LabError as error:
                raise Exit(str(error), error.code) from None
            except KeyboardInterrupt:
                raise Exit("interrupted; all that was started has been ended", INTERRUPTED) from None

        made: Task[Any] = task(auto_shortflags=False, **options)(shielded)
        return made

    return decorate


def collection(name: str, doc: str, **tasks: Task[Any]) -> Collection:
    """Tasks under one name, with a line about them for `invoke --list`."""
    space = Collection(name)
    space.__doc__ = doc
    for word, body in tasks.items():
        space.add_task(body, name=word)
    return space


def _printable() -> None:
    """A Windows console that lacks a character shows a question mark instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
