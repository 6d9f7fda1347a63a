"""How many values each metric has, and what it came to. Pure; standard library only (Python 3.8+).

It tells the same as `series.metrics_of`, and reads a run of millions of points in the memory of
their steps: of a point it keeps no more. Lines as `line` makes them are read without a JSON
decoder. What cannot be told so (tables, lists, charts, images, ints beyond 64 bits, numbers that
do not rise) is read as facts.
"""

from __future__ import annotations

import re
import zlib
from array import array
from typing import (
    Any,
    Callable,
    Container,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Set,
    Tuple,
)

from hpcrun.layout import Attempt
from hpcrun.metrics.series import EXACT, Metric, finite, metrics_of, numbers_of, text_of
from hpcrun.metrics.values import decoded
from hpcrun.record import Fact, Numbers, decode

Blocks = Iterable[Tuple[str, bytes]]
"""(the journal's name, whole lines of it): all of a run, one journal after the other."""

_COUNT = rb"(?:0|[1-9][0-9]{0,17})"
_ORDINAL = rb"(?:0|[1-9][0-9]{0,8})"

_scalar = re.compile(
    rb'[0-9a-f]{8} \{"k":"metric","a":\[(%(ordinal)s,%(ordinal)s)\],'
    rb'"t":((?:0|[1-9][0-9]{0,9})\.[0-9]{3}),"n":(%(count)s),'
    rb'"d":\{"m":"([ !#-\[\]-~]{1,1024})",'
    rb'"v":(-?%(count)s((?:\.[0-9]+)?(?:e[+-]?[0-9]{1,2})?))'
    rb'(?:,"s":(%(count)s))?(?:,"r":(%(ordinal)s))?\}\}' % {b"count": _COUNT, b"ordinal": _ORDINAL}
).fullmatch
"""The line of a number, in a form whose every part is known to be in its limits."""

_INTS = range(-(2**63), 2**63)


class MetricSummary(NamedTuple):
    """values: how many, or rows. last: the last value for people; of a table its size."""

    name: str
    values: int
    last: str


class Summary(NamedTuple):
    """metrics: by name. facts: all facts but those of metrics that are one plain value."""

    metrics: List[MetricSummary]
    facts: List[Fact]
    bad_lines: int


def summary_of(read: Callable[[], Blocks]) -> Summary:
    """The summary of what a run has logged. read: gives its journals of metrics; it is called
    again for metrics that must be read as facts."""
    reading = _Reading()
    reading.read(read())
    by_name = reading.by_name()
    as_facts = reading.untold(by_name)
    metrics = [_summary(name, by_name[name]) for name in by_name.keys() - as_facts]
    metrics += map(_of_metric, _whole(read, reading, as_facts))
    return Summary(sorted(metrics), reading.facts, reading.bad_lines)


def numbers_in(read: Callable[[], Blocks]) -> Dict[str, Numbers]:
    """What each metric came to; read: as for `summary_of`."""
    reading = _Reading()
    reading.read(read())
    by_name = reading.by_name()
    as_facts = reading.untold(by_name)
    as_facts.update(name for name, found in by_name.items() if not _all_stand(found))
    numbers = {name: _numbers(by_name[name]) for name in by_name.keys() - as_facts}
    numbers.update((m.name, numbers_of(m)) for m in _whole(read, reading, as_facts))
    return numbers


def _whole(read: Callable[[], Blocks], reading: "_Reading", names: Set[str]) -> List[Metric]:
    """The metrics of these names, from facts."""
    if not names:
        return []
    begins = {key: life.begin for key, life in reading.lives.items()}
    found = metrics_of(_facts(read(), names, begins))
    return [found[name] for name in found.keys() & names]


def _facts(
    blocks: Blocks, names: Container[str], begins: Mapping[Tuple[str, Attempt], float]
) -> Iterator[Fact]:
    """The facts of these metrics, and those that tell when a writer began, whatever they tell."""
    for writer, block in blocks:
        for line in block.split(b"\n"):
            fact = decode(line, writer)
            if fact is None or fact.kind != "metric":
                continue
            begin = begins.get((writer, fact.attempt), fact.time)
            if fact.data["m"] in names or fact.time <= begin:
                yield fact


def _of_metric(metric: Metric) -> MetricSummary:
    return MetricSummary(metric.name, metric.count, metric.last_text())


class _Life:
    """One writer in one attempt. begin: Unix seconds. number: its newest fact's."""

    def __init__(self, attempt: Attempt, writer: str) -> None:
        self.attempt = attempt
        self.writer = writer
        self.begin = float("inf")
        self.number = -1
        self.rises = True

    def add(self, time: float, number: int) -> None:
        if time < self.begin:
            self.begin = time
        if number <= self.number:
            self.rises = False
        self.number = number


class _Series:
    """What one life logged under one name for one rank."""

    def __init__(self, life: _Life, rank: int, name: str) -> None:
        self.life = life
        self.rank = rank
        self.name = name
        self.count = 0
        self.steps = array("q")
        self.kinds: Set[type] = set()
        self.last: Any = None
        self.least = float("inf")
        self.greatest = float("-inf")

    def place(self) -> Tuple[Attempt, int, float, str]:
        """Its place among the series of its name."""
        return self.life.attempt, self.rank, self.life.begin, self.life.writer


class _Reading:
    """What has been read so far."""

    def __init__(self) -> None:
        self.facts: List[Fact] = []
        self.bad_lines = 0
        self.lives: Dict[Tuple[str, Attempt], _Life] = {}
        self.series: Dict[Tuple[str, Attempt, int, str], _Series] = {}
        self.complex: Set[str] = set()

    def read(self, blocks: Blocks) -> None:
        """Reads all of a run."""
        for writer, block in blocks:
            self.add(writer, block)

    def by_name(self) -> Dict[str, List[_Series]]:
        """The series of each metric."""
        found: Dict[str, List[_Series]] = {}
        for series in self.series.values():
            found.setdefault(series.name, []).append(series)
        return found

    def untold(self, by_name: Mapping[str, List[_Series]]) -> Set[str]:
        """The metrics of which series do not tell enough."""
        if not all(life.rises for life in self.lives.values()):
            return self.complex | by_name.keys()
        return self.complex | {n for n, found in by_name.items() if not _told_by_series(found)}

    def add(self, writer: str, block: bytes) -> None:
        """Reads whole lines of a journal."""
        known: Dict[Tuple[Optional[bytes], ...], _Series] = {}
        crc32 = zlib.crc32
        for line in block.split(b"\n"):
            match = _scalar(line)
            if match is None or int(line[:8], 16) != crc32(line[9:]):
                if line:
                    self._add_other(writer, line)
                continue
            attempt, time, number, name, value, fraction, step, rank = match.groups()
            key = attempt, name, rank
            series = known.get(key)
            if series is None:
                submission, restart = attempt.split(b",")
                whose = Attempt(int(submission), int(restart))
                series = self._series(writer, whose, int(rank or 0), name.decode())
                known[key] = series
            series.life.add(float(time), int(number))
            series.count += 1
            if step is not None:
                series.steps.append(int(step))
            series.last = last = float(value) if fraction else int(value)
            series.kinds.add(type(last))
            if last < series.least:
                series.least = last
            if last > series.greatest:
                series.greatest = last

    def _add_other(self, writer: str, line: bytes) -> None:
        fact = decode(line, writer)
        if fact is None:
            self.bad_lines += 1
            return
        if fact.kind != "metric":
            self.facts.append(fact)
            return
        name = fact.data["m"]
        self._life(writer, fact.attempt).add(fact.time, fact.number)
        if "y" in fact.data:
            self.facts.append(fact)
            self.complex.add(name)
            return
        value = decoded(fact.data["v"])
        if type(value) is int and value not in _INTS:
            self.complex.add(name)
        series = self._series(writer, fact.attempt, fact.data.get("r", 0), name)
        series.count += 1
        if "s" in fact.data:
            series.steps.append(fact.data["s"])
        series.last = value
        series.kinds.add(type(value))
        number = finite(value)
        if number is not None:
            series.least = min(series.least, number)
            series.greatest = max(series.greatest, number)

    def _life(self, writer: str, attempt: Attempt) -> _Life:
        return self.lives.setdefault((writer, attempt), _Life(attempt, writer))

    def _series(self, writer: str, attempt: Attempt, rank: int, name: str) -> _Series:
        new = _Series(self._life(writer, attempt), rank, name)
        return self.series.setdefault((writer, attempt, rank, name), new)


def _told_by_series(found: List[_Series]) -> bool:
    """Whether the series of a metric tell enough: where ints and floats were logged, the values
    that stand decide whether all are shown as floats, and an int that no float holds."""
    several = len({series.life.attempt for series in found}) > 1
    large = any(max(series.greatest, -series.least) > EXACT for series in found)
    return not ((several or large) and {int, float} <= _kinds(found))


def _summary(name: str, found: List[_Series]) -> MetricSummary:
    last = max(found, key=_Series.place).last
    if type(last) is int and _kinds(found) == {int, float}:
        last = float(last)
    return MetricSummary(name, _standing(found), text_of(last))


def _numbers(found: List[_Series]) -> Numbers:
    """What a metric came to of which every value stands."""
    least = min(series.least for series in found)
    greatest = max(series.greatest for series in found)
    last = finite(max(found, key=_Series.place).last)
    return Numbers(last, finite(least), finite(greatest))


def _all_stand(found: List[_Series]) -> bool:
    return _standing(found) == sum(series.count for series in found)


def _kinds(found: List[_Series]) -> Set[type]:
    return {kind for series in found for kind in series.kinds} - {type(None)}


def _standing(found: List[_Series]) -> int:
    """How many values stand: those whose step no newer attempt logged again."""
    attempts = sorted({series.life.attempt for series in found}, reverse=True)
    count = sum(series.count for series in found)
    newer: Set[int] = set()
    for attempt in attempts if len(attempts) > 1 else ():
        own = [series.steps for series in found if series.life.attempt == attempt]
        count -= sum(step in newer for steps in own for step in steps)
        newer.update(step for steps in own for step in steps)
    return count
