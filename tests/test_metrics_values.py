"""Tests of values: what can be logged, how it stands in JSON, and how it comes back."""

from __future__ import annotations

import enum
import json
import math
from decimal import Decimal
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.layout import Attempt
from hpcrun.metrics.line import MetricLines
from hpcrun.metrics.values import (
    checked_name,
    checked_step,
    decoded,
    row,
    scalar,
    several,
    table,
)
from hpcrun.record import Fact, decode, encode

VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text())
ANY_TEXT = st.text(st.characters(), min_size=1, max_size=80)


def same(left: object, right: object) -> bool:
    """Equal, of one type, and nan is nan."""
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left):
        return math.isnan(right)
    return type(left) is type(right) and left == right


def through_json(value: object) -> Any:
    text = json.dumps(scalar(value), allow_nan=False)
    return decoded(json.loads(text))


@given(VALUES)
def test_values_come_back(value: object) -> None:
    assert same(through_json(value), value)


@pytest.mark.parametrize("text", ["nan", "NaN", "inf", "-inf", "0x10", "", "\udcff", "\0\n"])
def test_texts_stay_texts(text: str) -> None:
    assert through_json(text) == text


@pytest.mark.parametrize("exponent", [63, 64, 4300 * 4, 100_000])
@pytest.mark.parametrize("sign", [1, -1])
def test_ints_of_any_size_come_back(exponent: int, sign: int) -> None:
    assert through_json(sign * 2**exponent) == sign * 2**exponent


class Color(enum.IntEnum):
    RED = 3


class Word(enum.StrEnum):
    LOW = "low"


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (Color.RED, 3),
        (Word.LOW, "low"),
        (1 + 2j, "(1+2j)"),
        (b"ab", "b'ab'"),
        (Decimal("1.5"), "Decimal('1.5')"),
    ],
)
def test_other_objects(value: object, read: object) -> None:
    assert same(through_json(value), read)


@pytest.mark.parametrize(
    "value", [[1], (), {1}, {"a": 1}, range(3), iter([1]), (x for x in "a"), frozenset()]
)
def test_several_values_are_refused(value: object) -> None:
    with pytest.raises(TypeError, match=r"log_list\(\)"):
        scalar(value)


class Tensor:
    """What torch, JAX and NumPy have in common, with torch's errors."""

    def __init__(self, *values: object) -> None:
        self.values = values

    def item(self) -> object:
        if len(self.values) != 1:
            raise RuntimeError(f"a Tensor with {len(self.values)} elements cannot be converted")
        return self.values[0]

    def tolist(self) -> list[object]:
        return list(self.values)


class EagerTensor:
    """TensorFlow's: only .numpy()."""

    def __init__(self, array: object) -> None:
        self.array = array

    def numpy(self) -> object:
        return self.array


class Combo:
    """An object whose .item() is something else."""

    def item(self, row: int) -> int:
        return row

    def __repr__(self) -> str:
        return "Combo()"


def test_tensors_by_their_methods() -> None:
    assert scalar(Tensor(0.5)) == 0.5
    assert scalar(Tensor(2j)) == "2j"
    assert scalar(EagerTensor(Tensor(7))) == 7
    assert scalar(Combo()) == "Combo()"
    assert several(Tensor(1, 2.5)) == [1, 2.5]
    assert several(EagerTensor(Tensor(1, 2))) == [1, 2]
    with pytest.raises(TypeError, match="Tensor holds several"):
        scalar(Tensor(1, 2))


def test_numpy() -> None:
    assert same(scalar(numpy.float64(0.1)), 0.1)
    assert same(scalar(numpy.float32(0.5)), 0.5)
    assert same(scalar(numpy.int64(-3)), -3)
    assert decoded(scalar(numpy.uint64(2**64 - 1))) == 2**64 - 1
    assert same(scalar(numpy.bool_(True)), True)
    assert same(scalar(numpy.str_("a")), "a")
    assert same(scalar(numpy.array(3)), 3)
    assert same(scalar(numpy.array([[2.5]])), 2.5)
    assert scalar(numpy.float32("nan")) == {"f": "nan"}
    assert scalar(numpy.longdouble("1.5")) == repr(numpy.longdouble("1.5"))
    assert several(numpy.arange(3)) == [0, 1, 2]
    assert table({"x": numpy.arange(2), "y": [1.0, 2.0]}) == {"x": [0, 1], "y": [1.0, 2.0]}
    assert table({"x": numpy.float64(1)}) == {"x": [1.0]}
    for array in (numpy.arange(2), numpy.array([])):
        with pytest.raises(TypeError, match=r"log_list\(\)"):
            scalar(array)
    with pytest.raises(TypeError, match=r"log_list\(\)"):
        several(numpy.zeros((2, 2)))


def test_torch() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    assert scalar(torch.tensor(0.5, requires_grad=True)) == 0.5
    assert scalar(torch.tensor([3])) == 3
    assert scalar(torch.tensor(0.5, dtype=torch.bfloat16)) == 0.5
    assert several(torch.tensor([1, 2])) == [1, 2]
    assert checked_step(torch.tensor(4)) == 4
    with pytest.raises(TypeError, match=r"log_list\(\)"):
        scalar(torch.tensor([1, 2]))


def test_lists() -> None:
    assert several(x / 2 for x in range(3)) == [0.0, 0.5, 1.0]
    assert several([None, True, "a", float("inf")]) == [None, True, "a", {"f": "inf"}]
    for wrong in ("abc", b"abc", {"a": 1}, 3, None):
        with pytest.raises(TypeError, match="a list of values is needed"):
            several(wrong)
    for unordered in ({1, 2}, frozenset("ab")):
        with pytest.raises(TypeError, match="set have no order"):
            several(unordered)
        with pytest.raises(TypeError, match="set have no order"):
            table({"x": unordered})


def test_tables() -> None:
    assert table({"x": range(2), "y": (3, 4), "z": iter("ab")}) == {
        "x": [0, 1],
        "y": [3, 4],
        "z": ["a", "b"],
    }
    assert table({"x": 1, "y": "text"}) == {"x": [1], "y": ["text"]}
    with pytest.raises(ValueError, match="equal length"):
        table({"x": [1], "y": [1, 2]})
    with pytest.raises(TypeError, match="dict of columns"):
        table([1])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"log_list\(\)"):
        row({"x": [1, 2]})


def test_names() -> None:
    assert checked_name("a/ä\n\0" + "x" * 1019) == "a/ä\n\0" + "x" * 1019
    for wrong in ("", "x" * 1025):
        with pytest.raises(ValueError, match="1 to 1024 characters"):
            checked_name(wrong)
    with pytest.raises(TypeError, match="must be a str"):
        checked_name(3)


@pytest.mark.parametrize(
    ("step", "read"),
    [
        (None, None),
        (0, 0),
        (2**63 - 1, 2**63 - 1),
        (3.0, 3),
        (Color.RED, 3),
        (numpy.int32(4), 4),
        (numpy.float32(4), 4),
        (numpy.array([4]), 4),
    ],
)
def test_steps(step: object, read: int | None) -> None:
    assert same(checked_step(step), read)


WRONG_STEPS = (-1, 2**63, 10**9999, -0.5, 1.5, 2.0**63, math.nan, math.inf, True, numpy.bool_(True))


@pytest.mark.parametrize(
    "step",
    [*WRONG_STEPS, "1", b"1", [1], {}, numpy.arange(2), 1j, object()],
    ids=lambda step: type(step).__name__,
)
def test_what_is_no_step(step: object) -> None:
    with pytest.raises(ValueError, match="a step must be a whole number from 0 to"):
        checked_step(step)


@given(
    ANY_TEXT,
    VALUES,
    st.none() | st.integers(0, 2**63 - 1),
    st.integers(0, 3),
    st.floats(1e9, 2e9),
    st.integers(1, 2**40),
)
def test_fast_lines_read_as_the_encoders(
    name: str, value: object, step: int | None, rank: int, time: float, number: int
) -> None:
    data = {"m": name, "v": scalar(value)}
    if step is not None:
        data["s"] = step
    if rank:
        data["r"] = rank
    attempt = Attempt(2, 1)
    slow = encode(Fact("metric", attempt, time, number, data))
    fast = MetricLines(attempt).scalar(time, number, data)
    is_number = isinstance(data["v"], (int, float)) and not isinstance(data["v"], bool)
    assert (fast is not None) == is_number
    assert decode(fast or slow) == decode(slow)
    assert decode(slow) is not None
