"""Tests of series: facts to metrics, whatever their order, and to Azure ML's shapes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.layout import Attempt
from hpcrun.metrics import azure_shape, metrics_of
from hpcrun.record import Fact, Numbers
from hpcrun.workflow.summary import summary_of

FIRST, SECOND = Attempt(1, 0), Attempt(1, 1)


class Writer:
    """Makes the facts of one writer."""

    def __init__(self, name: str = "w", attempt: Attempt = FIRST, begin: float = 100.0) -> None:
        self.name = name
        self.attempt = attempt
        self.begin = begin
        self.count = 0

    def __call__(self, value: Any, name: str = "x", **data: Any) -> Fact:
        self.count += 1
        moment = self.begin + self.count
        data = {"m": name, "v": value, **data}
        return Fact("metric", self.attempt, moment, self.count, data, self.name)


def shape(*facts: Fact, name: str = "x") -> object:
    return azure_shape(metrics_of(facts)[name])


def test_scalars() -> None:
    log = Writer()
    assert shape(log(1)) == 1
    assert shape(log(1), log("a"), log(None), log(True)) == [1, "a", None, True]


def test_lists_are_joined() -> None:
    log = Writer()
    assert shape(log([1, 2], y="list"), log([3], y="list")) == [1, 2, 3]
    assert shape(log([1], y="list")) == [1]
    assert shape(log([], y="list")) == []
    assert shape(log(0), log([1], y="list")) == [0, 1]


def test_rows_and_tables() -> None:
    log = Writer()
    facts = [
        log({"a": 1, "b": 2}, y="row"),
        log({"b": 3, "c": "x"}, y="row"),
        log({"a": [4, 5], "c": ["y", None]}, y="table"),
    ]
    assert shape(*facts) == {
        "a": [1, None, 4, 5],
        "b": [2, 3, None, None],
        "c": [None, "x", "y", None],
    }
    assert shape(log({"a": 1}, y="row")) == {"a": [1]}
    assert shape(log({}, y="table")) == {}
    assert shape(log({"a": [], "b": []}, y="table")) == {"a": [], "b": []}
    assert shape(log({"b": []}, y="table"), log({"a": 1}, y="row")) == {"b": [None], "a": [1]}


def test_value_beside_rows_has_the_metrics_own_column() -> None:
    log = Writer()
    assert shape(log({"a": 1}, y="row"), log(7)) == {"a": [1, None], "x": [None, 7]}


def test_ints_among_floats_are_floats() -> None:
    log = Writer()
    mixed: Any = shape(log(1), log(0.5), log(None))
    assert mixed == [1.0, 0.5, None]
    assert [type(v) for v in mixed[:2]] == [float, float]
    assert shape(log(1), log("a"), log(0.5)) == [1, "a", 0.5]
    assert shape(log(0.5), log({"i": hex(10**400)})) == [0.5, 10**400]
    assert shape(log(2**53), log(0.5)) == [2.0**53, 0.5]
    for large in (2**53 + 1, -(2**53) - 1):
        exact: Any = shape(log(1), log(large), log(0.5))
        assert [type(value) for value in exact] == [int, int, float]
        assert exact[1] == large
    kept: Any = shape(log(True), log(2))
    assert [type(v) for v in kept] == [bool, int]


def test_nonfinite_and_big_come_back() -> None:
    log = Writer()
    read: Any = shape(log({"f": "nan"}), log({"i": hex(2**70)}), log("nan"))
    nan, big, text = read
    assert nan != nan
    assert (big, text) == (2**70, "nan")


def test_newest_attempt_stands_where_it_logged_the_same_step() -> None:
    old, new = Writer("a", FIRST), Writer("b", SECOND)
    facts = [old(i / 10, s=i) for i in range(5)] + [new(i / 100, s=i) for i in (3, 4, 5)]
    metric = metrics_of(facts)["x"]
    assert metric.values == [0.0, 0.1, 0.2, 0.03, 0.04, 0.05]
    assert metric.steps == [0, 1, 2, 3, 4, 5]
    assert metric.attempts == [FIRST] * 3 + [SECOND] * 3


def test_clocks_do_not_order_attempts() -> None:
    old, new = Writer("a", FIRST, begin=9000.0), Writer("b", SECOND, begin=10.0)
    assert shape(new(2), old(1)) == [1, 2]


def test_repeated_and_disordered_steps_are_kept() -> None:
    log = Writer()
    metric = metrics_of([log(1.0, s=2), log(2.0, s=1), log(3.0, s=2)])["x"]
    assert (metric.values, metric.steps) == ([1.0, 2.0, 3.0], [2, 1, 2])
    assert metric.points() == [(1, 2.0), (2, 1.0), (2, 3.0)]
    assert metric.last_text() == "3"


def test_values_without_step_are_joined_over_attempts() -> None:
    old, new = Writer("a", FIRST), Writer("b", SECOND)
    assert shape(new(3), old(1), old(2)) == [1, 2, 3]


def test_processes_one_after_another() -> None:
    train, test = Writer("z", begin=100.0), Writer("a", begin=200.0)
    assert shape(test(3), train(1), train(2)) == [1, 2, 3]


def test_ranks() -> None:
    one, zero = Writer("a", begin=1.0), Writer("b", begin=2.0)
    metric = metrics_of([one(10.0, r=1, s=0), zero(1.0, s=0), zero(2.0, s=1)])["x"]
    assert (metric.values, metric.ranks) == ([1.0, 2.0, 10.0], [0, 0, 1])
    assert metric.points() == [(0, 1.0), (1, 2.0)]


def test_points_leave_out_what_is_no_number() -> None:
    log = Writer()
    facts = [log(1), log({"f": "nan"}), log("a"), log(True), log(None), log({"f": "inf"}), log(2)]
    assert metrics_of(facts)["x"].points() == [(0, 1.0), (6, 2.0)]
    table = metrics_of([log({"a": 1}, y="row")])["x"]
    assert (table.points(), table.last_text()) == ([], "1 rows × 1 columns")


@pytest.mark.parametrize(
    ("value", "text"), [(0.123456789, "0.123457"), (3, "3"), ("a", "a"), ({"f": "nan"}, "nan")]
)
def test_last_text(value: object, text: str) -> None:
    assert metrics_of([Writer()(value)])["x"].last_text() == text


def test_other_facts_are_passed_over() -> None:
    assert metrics_of([Fact("tags", FIRST, 1.0, 1, {"set": {}}, "w")]) == {}


FACTS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from([FIRST, SECOND, Attempt(2, 0)]),
        st.sampled_from(["x", "y"]),
        st.none() | st.integers(0, 3),
        st.integers(0, 2),
        st.floats(0, 10),
        st.sampled_from(["scalar", "list", "row", "table"]),
        st.integers(0, 9),
    ),
    max_size=25,
)
FORMS: dict[str, Callable[[int], Any]] = {
    "scalar": lambda v: v,
    "list": lambda v: [v, v + 1],
    "row": lambda v: {f"c{v % 3}": v},
    "table": lambda v: {"c0": [v], "c1": [v / 2]},
}


@given(FACTS, st.randoms(use_true_random=False))
def test_order_and_repeats_do_not_matter(rows: list[Any], chance: random.Random) -> None:
    facts = []
    for number, (writer, attempt, name, step, rank, moment, form, value) in enumerate(rows, 1):
        data = {"m": name, "v": FORMS[form](value), "r": rank}
        if form == "scalar" and step is not None:
            data["s"] = step
        elif form != "scalar":
            data["y"] = form
        facts.append(Fact("metric", attempt, moment, number, data, writer))
    expected = metrics_of(facts)
    again = facts + [fact for fact in facts if chance.random() < 0.5]
    chance.shuffle(again)
    assert metrics_of(again) == expected
    for metric in expected.values():
        lengths = {len(column) for column in metric.columns.values()}
        assert lengths <= {metric.count}
        assert len(metric.steps) == len(metric.ranks) == len(metric.attempts) == metric.count


def test_what_a_metric_came_to_is_told_over_all_ranks() -> None:
    facts = [
        Fact("metric", FIRST, 1.0 + n, n, {"m": "x", "v": value, "r": rank}, f"rank-{rank}")
        for n, (rank, value) in enumerate([(0, 5.0), (2, 9.0), (2, 7.0), (1, -1.0), (0, 6.0)])
    ]
    metric = metrics_of(facts)["x"]
    summary = summary_of(metric)
    assert (summary.last, summary.text, summary.values) == (7.0, "7", 5)
    assert summary.numbers == Numbers(last=7.0, min=-1.0, max=9.0)
    assert [number for _, number in metric.points()] == [5.0, 6.0]
