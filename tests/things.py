"""What test files of YAML are read into."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pytest

from hpcrun.errors import ConfigError
from hpcrun.reading import read_partly


@dataclass
class Cat:
    kind: ClassVar[str] = "cat"
    lives: int = 9


@dataclass
class Dog:
    kind: ClassVar[str] = "dog"
    name: str = "rex"


@dataclass
class House:
    rooms: int | None = None
    street: str | None = None


@dataclass
class Thing:
    words: list[str] | None = None
    pair: tuple[str, ...] = ()
    names: dict[str, str] | None = None
    flags: dict[str, str | None] | None = None
    count: int | None = None
    size: float | None = None
    on: bool | None = None
    text: str = "default"
    level: Literal["Low", "High"] | None = None
    pet: Cat | Dog | None = None
    house: House = field(default_factory=House)
    line: list[str] | str | None = None
    place: House | str = "here"
    anything: Any = None


def read(text: str, *overrides: str) -> Thing:
    """What a file of this text gives."""
    return read_partly(Thing, text, "f.yaml", overrides=overrides).sound().value


def problems(text: str, *overrides: str) -> list[str]:
    """All that is wrong with it."""
    with pytest.raises(ConfigError) as raised:
        read(text, *overrides)
    return [str(problem) for problem in raised.value.problems]


def problem(text: str, *overrides: str) -> str:
    """The one thing that is wrong with it."""
    (only,) = problems(text, *overrides)
    return only
