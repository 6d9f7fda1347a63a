"""Tests of summaries: they tell what the series tell, of any facts in any journals."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hpcrun.layout import Attempt, JournalKind
from hpcrun.metrics import metrics_of
from hpcrun.metrics.line import MetricLines
from hpcrun.metrics.series import numbers_of
from hpcrun.metrics.summary import MetricSummary, numbers_in, summary_of
from hpcrun.record import Fact, decode_page, encode
from hpcrun.store import FileStore, layers
from hpcrun.store.layers import Layers

FIRST, SECOND, THIRD = Attempt(1, 0), Attempt(1, 1), Attempt(2, 0)


def line_of(fact: Fact) -> bytes:
    """As a logging process writes it."""
    line = None
    if fact.kind == "metric" and type(fact.data["v"]) in (int, float) and "y" not in fact.data:
        line = MetricLines(fact.attempt).scalar(fact.time, fact.number, fact.data)
    return line or encode(fact)


def told(facts: Sequence[Fact]) -> list[MetricSummary]:
    """What the series tell of facts."""
    found = metrics_of(facts).values()
    return [MetricSummary(m.name, m.count, m.last_text()) for m in found]


def journals(facts: Sequence[Fact]) -> dict[str, bytes]:
    lines: dict[str, bytes] = {}
    for fact in facts:
        lines[fact.writer] = lines.get(fact.writer, b"") + line_of(fact)
    return lines


def as_read(lines: dict[str, bytes]) -> list[Fact]:
    return [fact for name, data in lines.items() for fact in decode_page(data, name).facts]


def metric(number: int, attempt: Attempt = FIRST, writer: str = "w", **data: object) -> Fact:
    return Fact("metric", attempt, 100.0 + number, number, {"m": "x", **data}, writer)


plain = st.one_of(
    st.integers(-3, 3),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(
        [None, True, "text", {"f": "nan"}, {"f": "-inf"}, {"i": "0xffffffffffffffffff"}]
    ),
)
forms = st.one_of(
    st.fixed_dictionaries({"v": plain}, optional={"s": st.integers(0, 3), "r": st.integers(0, 2)}),
    st.fixed_dictionaries({"v": st.lists(plain, max_size=2), "y": st.just("list")}),
    st.fixed_dictionaries(
        {"v": st.dictionaries(st.sampled_from("ab"), plain, max_size=2), "y": st.just("row")}
    ),
)


@st.composite
def runs(draw: st.DrawFn) -> list[Fact]:
    """What some writers told, mostly plain numbers; now and then a number comes again."""
    numbers = st.fixed_dictionaries(
        {"v": st.one_of(st.floats(-9, 9), st.integers(-9, 9))}, optional={"s": st.integers(0, 3)}
    )
    data = numbers if draw(st.booleans()) else forms
    again = draw(st.booleans())
    counts: dict[str, int] = {}
    found = []
    for _ in range(draw(st.integers(0, 12))):
        writer = draw(st.sampled_from(["a", "b"]))
        counts[writer] = counts.get(writer, 0) + draw(st.integers(0 if again else 1, 2))
        found.append(
            Fact(
                "metric",
                draw(st.sampled_from([FIRST, SECOND, THIRD])),
                draw(st.integers(0, 50)) / 4,
                counts[writer],
                {"m": draw(st.sampled_from(["x", "y", "é", 'q"'])), **draw(data)},
                writer,
            )
        )
    return found


@given(runs())
@example([metric(1, v=1, s=0), metric(2, v=2, s=1), metric(1, SECOND, "b", v=2.5, s=1)])
@example([metric(1, v=1.5, s=0), metric(2, v=2.5, s=1), metric(1, SECOND, "b", v=2.5, s=0)])
@example([metric(1, v=1.5), metric(2, v=10**7)])
@example([metric(1, v={"i": hex(10**400)}), metric(2, v=1.5), metric(3, v=10**7)])
@example([metric(1, v=1.5), metric(2, v=2**53 + 1)])
@example([metric(1, v=1.5), metric(2, v=-(2**53) - 1), metric(3, v=10**7)])
@example([metric(1, v=1.5, s=0), metric(1, SECOND, "b", v=10**7, s=0)])
@example([metric(5, writer="a", v=1.5), metric(1, writer="b", v=2), metric(9, writer="b", v=3)])
@example(
    [
        metric(1, writer="a", m="other", v=1.5),
        metric(9, writer="a", v=[1], y="list"),
        metric(5, writer="b", v=[2], y="list"),
    ]
)
@example([metric(2, v=1.5), metric(1, v=2.5)])
@example([metric(1, v=1.5), metric(1, v=2.5)])
@example([metric(1, v=1.5, r=1), metric(2, v={"f": "nan"}), metric(3, v=7), metric(4, v=9, r=1)])
def test_a_summary_tells_what_the_series_tell(facts: list[Fact]) -> None:
    lines = journals(facts)
    assert summary_of(lines.items).metrics == told(as_read(lines))
    numbers = {name: numbers_of(metric) for name, metric in metrics_of(as_read(lines)).items()}
    assert numbers_in(lines.items) == numbers


def test_what_is_no_fact_is_counted_and_other_facts_are_given() -> None:
    sample = Fact("system", FIRST, 1.0, 1, {"host": "n", "cpus": 4}, "w")
    picture = metric(2, y="image", v="images/a.png", sha256="0", size=3)
    whole = line_of(metric(3, v=1.5))
    damaged = whole.replace(b"1.5", b"2.5")
    lines = {"w": encode(sample) + encode(picture) + damaged + b"foreign\n\n" + whole}
    summary = summary_of(lines.items)
    assert summary.bad_lines == 2
    assert summary.facts == [sample, picture]
    assert summary.metrics == told(as_read(lines)) and summary.metrics[0].values == 2


@given(st.binary(max_size=3), st.integers(0, 200))
def test_a_line_of_another_form_is_read_as_a_fact_is(other: bytes, place: int) -> None:
    line = line_of(metric(1, v=1.5, s=3, r=2)).rstrip(b"\n")
    body = line[9:][:place] + other + line[9:][place + len(other) :]
    lines = {"w": b"%08x %s\n" % (zlib.crc32(body), body)}
    page = decode_page(lines["w"], "w")
    summary = summary_of(lines.items)
    assert summary.metrics == told(page.facts)
    assert summary.bad_lines == page.bad_lines


def test_blocks_hold_what_the_facts_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileStore(tmp_path, "alice")
    paths = store.paths("x_1700000000_00000000")
    Path(paths.record).mkdir(parents=True)
    lines = [line_of(metric(number, v=number / 3)) for number in range(1, 60)]
    Path(paths.record, "w.metrics.jsonl").write_bytes(b"".join(lines) + lines[0][:20])
    monkeypatch.setattr(layers, "BLOCK", 250)
    blocks = list(Layers(-1, None, [Path(paths.record)]).blocks(JournalKind.METRICS))
    assert len(blocks) > 5
    assert b"".join(block for _, block in blocks) == b"".join(lines)
    assert all(not block or block.endswith(b"\n") for _, block in blocks)
    Path(paths.request).touch()
    summary = store.summary(paths)
    facts, bad_lines = store.facts(paths, JournalKind.METRICS)
    assert (summary.metrics, summary.bad_lines) == (told(facts), bad_lines)
