"""The words that both sides of the model use: names, texts, profiles, outcomes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Language = Literal["en", "zh"]
Text = str | dict[Language, str]
"""A sentence for the reader: English, or one sentence per language."""

Profile = Literal["linux", "poll-only", "select-only", "io-uring", "macos", "windows"]
"""What the servers may use of the operating system. The first four are Linux, all but the first of them on purpose
less or more than its default; the last two exist natively only."""

Outcome = Literal["holds", "refuted", "inconclusive", "unavailable"]
Protocol = Literal["tcp", "udp", "http"]
Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, le=600)]

NAME = r"^[a-z0-9]+(-[a-z0-9]+)*$"
Name = Annotated[str, Field(pattern=NAME)]
OptionalName = Annotated[str, Field(pattern=f"^$|{NAME}")]


def say(text: Text, language: Language = "en") -> str:
    """The sentence in `language`, or in English where there is none in it."""
    return text if isinstance(text, str) else text.get(language) or next(iter(text.values()))


class Frozen(BaseModel):
    """Immutable, and strict about names: an unknown key is a mistake, not a comment."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
