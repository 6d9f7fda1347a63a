"""Values made in Python are checked as those of a file are."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcrun.errors import ConfigError
from hpcrun.reading import check_value
from tests.things import Cat, House, Thing


class Colour(str, Enum):  # noqa: UP042  StrEnum writes its value, this one its name
    RED = "red"


def test_a_checked_value_is_an_equal_copy_that_shares_nothing() -> None:
    value = Thing(["a"], ("b",), {"a": "b"}, {"c": None}, 1, 0.5, True, "t", "Low", Cat(1))
    copy = check_value(Thing, value)
    assert copy == value
    assert copy is not value and copy.words is not value.words and copy.pet is not value.pet


@pytest.mark.parametrize(
    ("word", "text"),
    [
        (1, "1"),
        (0.001, "0.001"),
        (True, "True"),
        (Path("a/b"), "a/b"),
        (np.int64(7), "7"),
        (np.float32(0.1), "0.1"),
        (np.float64(0.1), "0.1"),
        (np.array(7), "7"),
        (np.bool_(True), "True"),
        (np.str_("s"), "s"),
        (Colour.RED, "red"),
        ("\udcff", "\udcff"),
    ],
)
def test_numbers_paths_and_scalars_of_numpy_become_text(word: Any, text: str) -> None:
    (made,) = check_value(Thing, Thing(words=[word])).words or []
    assert (made, type(made)) == (text, str)


def test_scalars_of_numpy_become_numbers_and_switches() -> None:
    value: Any = Thing(count=np.int64(3), size=np.float32(0.5), on=np.bool_(False))  # type: ignore[arg-type]
    made = check_value(Thing, value)
    assert (made.count, made.size, made.on) == (3, 0.5, False)
    assert [type(v) for v in (made.count, made.size, made.on)] == [int, float, bool]


def test_a_timedelta_becomes_seconds() -> None:
    assert check_value(Thing, Thing(text=timedelta(hours=2))).text == "7200s"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"words": [None]}, "`words[0]` is empty (write '' for an empty text)"),
        ({"words": [b"a"]}, "`words[0]` must be a text or number, not a bytes"),
        ({"words": [object()]}, "`words[0]` must be a text or number, not an object"),
        ({"words": [np.array([1, 2])]}, "`words[0]` must be a text or number, not a ndarray"),
        ({"words": "a b"}, "`words` must be a list, not 'a b' ([a, b])"),
        ({"words": {"a"}}, "`words` must be a list, not a set ([a, b])"),
        ({"words": ["a\0"]}, "`words[0]` holds a NUL character (no program can receive it)"),
        ({"words": ["\ud800"]}, "`words[0]` holds half a character: '\\ud800'"),
        ({"names": {"a": None}}, "`names.a` is empty (write '' for an empty text)"),
        ({"names": House()}, "`names` must be a mapping, not a House ({a: b})"),
        ({"count": "3"}, "`count` must be a whole number, not '3'"),
        ({"count": 3.0}, "`count` must be a whole number, not '3.0'"),
        ({"count": True}, "`count` must be a whole number, not 'True'"),
        ({"on": 1}, "`on` must be true or false, not '1' (true or false)"),
        ({"text": Thing}, "`text` must be a text or number, not a type"),
        ({"text": House()}, "`text` must be a text, not a House"),
        ({"house": Cat()}, "`house` must be a House, not a Cat"),
        ({"house": House}, "`house` must be a House, not a type"),
        ({"pet": House()}, "`pet` must be Cat or Dog, not a House"),
        ({"place": Cat()}, "`place` must be a House, not a Cat"),
        ({"level": "mid"}, "`level` cannot be 'mid' (known are Low, High)"),
        ({"count_": 3}, "there is no key `count_` (did you mean `count`?)"),
    ],
)
def test_a_wrong_value_in_python_is_told_in_one_sentence(
    changes: Mapping[str, Any], told: str
) -> None:
    value = Thing()
    for name, wrong in changes.items():
        setattr(value, name, wrong)
    with pytest.raises(ConfigError) as raised:
        check_value(Thing, value)
    assert str(raised.value) == told
    assert raised.value.problems[0].file == ""


def test_a_list_that_holds_itself_is_refused() -> None:
    endless: list[Any] = []
    endless += [endless, endless]
    with pytest.raises(ConfigError, match="nested more than 40 levels deep"):
        check_value(Thing, Thing(words=endless))
