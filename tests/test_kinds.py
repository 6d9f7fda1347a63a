"""Facts of others: whatever stands in a journal, readers get only what they can read."""

from __future__ import annotations

import ast
import json
import re
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hpcrun
from hpcrun.api.columns import columns_of
from hpcrun.fold import fold
from hpcrun.kinds import KINDS
from hpcrun.kinds import REQUEST as ASKED
from hpcrun.layout import Attempt
from hpcrun.metrics import azure_shapes, metrics_of
from hpcrun.metrics.images import content_of, images_of
from hpcrun.metrics.system import system_metrics, use_of
from hpcrun.record import Fact, decode_page
from hpcrun.state import Cause, State

REQUEST = {
    "run_id": "digits_1700000000_0123abcd",
    "experiment": "digits",
    "user": "alice",
    "target": "local",
    "created": 1.0,
}

PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.integers(),
    st.sampled_from([2**63, 10**400, -(10**4000), 1e308, -1e308, 1e12, float("nan")]),
    st.floats(),
    st.text(st.characters(exclude_categories=()), max_size=6),
    st.sampled_from(["\ud800", "nan", "", "../../x", "images/..", "images/a.png", "AAAA", "n1"]),
    st.sampled_from([*map(str, State), *map(str, Cause), "list", "row", "table", "image"]),
)
FORMS = st.one_of(
    st.sampled_from(
        [{"f": "nan"}, {"f": "x"}, {"i": hex(10**6000)}, {"i": 3}, {"d": "["}, {"d": 1}]
    ),
    st.just({"d": json.dumps({"schema_type": "residuals", "data": {}})}),
    st.just({"d": "[" * 5000 + "]" * 5000}),
    st.just({"d": '{"schema_type":"residuals","x":' + "[" * 500 + "]" * 500 + "}"}),
)
JSON = st.recursive(
    PLAIN | FORMS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
POOL: list[Any] = [
    *(None, True, 0, 1, 7, 2**31 - 1, 2**63 - 1, 2**63, 10**400, -(10**4000), 3, -5),
    *(0.5, 1e308, -1e308, 1e12, float("nan"), float("inf")),
    *("", "a", "\ud800", "a\x1b[2J", "n1", "images/a.png", "AAAA", "x" * 1024),
    *("digits_1700000000_0123abcd", "7;c"),
    *map(str, State),
    *map(str, Cause),
    *({"f": "nan"}, {"i": hex(10**6000)}, {"i": hex(-(2**70))}, {"a": 1, "b": {"f": "inf"}}),
    {"d": json.dumps({"schema_type": "residuals", "data": {}})},
    *({}, {"a": "b"}, {"a": 3}, {"a": [1, 2]}, {"a": [1, {"f": "nan"}], "b": ["x", None]}),
    *([], ["n1", "n2"], [1, 0.5, None, "a"], [["outputs/a", 3, None]], [[], 5]),
    {"a": [5, 6]},
]
"""Values of which some are right for every name."""

EXTRA = {
    "metric": {
        "y": ["list", "row", "table", "image", "residuals", None],
        "size": [5],
        "sha256": ["00"],
    },
    "system": {
        "of": ["job"],
        "cpu_percent": [0.0, 250, 1e20],
        "memory_bytes": [5, 1 << 62],
        "memory_limit_bytes": [0, 1e20],
        "gpu_percent": [[1, None], []],
    },
}
"""What data of a kind hold besides."""


@st.composite
def facts(draw: st.DrawFn) -> Fact:
    """Some fact of a kind that is known. Most of its data are right, or nearly so."""
    kind = draw(st.sampled_from([*sorted(KINDS), *["metric"] * 12]))
    known = KINDS[kind]
    right = {
        name: [value for value in POOL if check(value)]
        for name, check in (*known.needs.items(), *known.may.items())
    } | EXTRA.get(kind, {})
    wrong = draw(st.sampled_from([None, None, None, "data", "attempt", "time", *right]))
    data: Any = {
        name: draw(JSON if name == wrong else st.sampled_from(values))
        for name, values in right.items()
        if name in known.needs or draw(st.booleans())
    }
    attempt: Any = draw(st.sampled_from([Attempt(1), Attempt(1, 1), Attempt(2)]))
    return Fact(
        kind,
        draw(st.lists(JSON, max_size=3)) if wrong == "attempt" else attempt,  # type: ignore[arg-type]
        draw(PLAIN) if wrong == "time" else draw(st.sampled_from([5.0, 99_999_999_999])),
        draw(st.integers(0, 9)),
        draw(JSON) if wrong == "data" else data,
        "w",
    )


def line(fact: Fact) -> bytes:
    """The line that somebody else may have written."""
    value = {"k": fact.kind, "a": fact.attempt, "t": fact.time, "n": fact.number, "d": fact.data}
    body = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return b"%08x %s\n" % (zlib.crc32(body), body)


def test_every_kind_that_is_told_is_in_the_table() -> None:
    """What is not would pass unchecked, and belong to no attempt."""
    told = set()
    for file in Path(hpcrun.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            texts = [str(a.value) for a in node.args if isinstance(a, ast.Constant)]
            words = [text for text in texts if re.fullmatch("[a-z_]+", text)]
            is_list = node.func.attr == "append" and len(node.args) == 1
            if node.func.attr in ("tell", "append", "_append") and not is_list and words:
                told.add(words[0])
    assert {"stopping", "drained", "problem", "tags", "system", "metric"} <= told <= set(KINDS)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"m": "x", "v": {"i": hex(10**6000)}}, "an int of 19932 bits"),
        ({"m": "x", "v": 1e308}, "1e+308"),
        ({"m": "x", "v": {"f": "-inf"}, "s": 2**63 - 1}, "-inf"),
        ({"v": 1}, None),
        ({"m": "", "v": 1}, None),
        ({"m": 3, "v": 1}, None),
        ({"m": "x"}, None),
        ({"m": "x", "v": [1]}, None),
        ({"m": "x", "v": {"f": "1"}}, None),
        ({"m": "x", "v": {"i": "1_0"}}, None),
        ({"m": "x", "v": 1, "s": "3"}, None),
        ({"m": "x", "v": 1, "s": 2**63}, None),
        ({"m": "x", "v": 1, "s": True}, None),
        ({"m": "x", "v": 1, "r": -1}, None),
        ({"m": "x", "v": 1, "y": ["list"]}, None),
        ({"m": "x", "v": {"a": [1], "b": []}, "y": "table"}, None),
        ({"m": "x", "v": "images/../../.bashrc", "y": "image", "size": 1, "sha256": ""}, None),
        ({"m": "x", "v": {"d": '{"schema_type": "other"}'}, "y": "residuals"}, None),
    ],
)
def test_what_a_metric_needs(value: Any, told: str | None) -> None:
    page = decode_page(line(Fact("metric", Attempt(1), 1.0, 1, value)))
    assert [metric.last_text() for metric in metrics_of(page.facts).values()] == (
        [] if told is None else [told]
    )
    assert page.bad_lines == (told is None)


@pytest.mark.parametrize(
    ("after", "is_read"),
    [
        (None, True),
        ({"runs": [{"run_id": "a", "user": "u", "record": "r"}], "condition": "afterok"}, True),
        (5, False),
        (["runs"], False),
        ({"runs": 5, "condition": "afterok"}, False),
        ({"runs": [5], "condition": "afterok"}, False),
        ({"runs": [{"run_id": 5}], "condition": "afterok"}, False),
        ({"runs": []}, False),
    ],
)
def test_what_a_request_tells_of_runs_that_it_waits_for(after: Any, is_read: bool) -> None:
    assert ASKED.wrong({**REQUEST, "after": after}) == ([] if is_read else ["after"])


@pytest.mark.parametrize("size", [-1, 10**400])
def test_a_size_that_no_file_has_is_foreign(size: int) -> None:
    data = {"m": "x", "v": "images/a.png", "y": "image", "size": size, "sha256": ""}
    page = decode_page(line(Fact("metric", Attempt(1), 1.0, 1, data)))
    assert (page.facts, page.bad_lines) == ([], 1)


def test_counts_whose_sum_python_does_not_print_are_foreign() -> None:
    lost = [Fact("loss", Attempt(1), 1.0, n, {"count": 9 * 10**4299}) for n in (1, 2)]
    page = decode_page(b"".join(map(line, lost)))
    assert str(fold(REQUEST, page.facts).lost_records) == "0"
    assert page.bad_lines == 2


@settings(max_examples=400)
@given(st.lists(facts(), max_size=8))
def test_no_fact_makes_a_reader_fall(told: list[Fact]) -> None:
    page = decode_page(b"".join(map(line, told)), "w")
    assert len(page.facts) + page.bad_lines == len(told)
    record = fold(REQUEST, page.facts)
    assert all("/" not in child for child in record.children)
    metrics = metrics_of(page.facts)
    azure_shapes(metrics, artifacts=page.facts)
    azure_shapes(system_metrics(page.facts))
    use_of(page.facts)
    for file in images_of(page.facts):
        assert ".." not in file.name.split("/")
        content_of(page.facts, file.name)
    for metric in metrics.values():
        metric.last_text()
        metric.points()
        columns_of(metric)
