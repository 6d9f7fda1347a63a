"""The index of a user's sealed runs: generations, each a file of columns that never changes.

    index/g00000001.h5         one row per sealed run, newest first; the greatest number counts
    index/<yyyy-mm>.<8 hex>    a mark: something was sealed into a month that may be closed

    catalog    JSON: `months` (begin and end of its rows, whether closed), `words` of the columns of
               texts, `metrics` (begin and end in metric_row and metric_value)
    run_id     the ids, a line each; run_id_end: where each ends; number: of the sealed file
    row        the record as JSON and the last values of metrics; row_end: where each ends
    created, started, ended, took               seconds, nan for what is not known
    experiment, target, status, verdict         a place in the catalog's words, which are sorted
    child, archived                             1 for a child run, and for an archived one
    metric_row, metric_value                    by metric: who has it, and its last value

A closed month is not listed again: its runs were all sealed when it was read. Who seals into one
that may be closed leaves a mark, before the run leaves active/, and who deletes from one does so
before and after; a builder looks at active/, then at the marks, then at the months, and removes
those marks. Readers look in the same order. All of it
can be made again from the sealed files.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hpcrun.forms import is_count
from hpcrun.layout import UserPaths, month_of, month_of_seconds
from hpcrun.record import RunRecord
from hpcrun.store.formats import NewerFormat
from hpcrun.store.hdf5 import Columns, Damaged, check, encode, opened, whole
from hpcrun.store.plain import files_in
from hpcrun.store.publishing import publish
from hpcrun.store.rows import Row, newest_first

if TYPE_CHECKING:
    import numpy

KIND, FORMAT = "index", 1

KEPT = 3
"""Generations that stay: who reads an older one may go on."""

SKEW = 2 * 86400
"""Seconds by which clocks may differ where the end of a month is judged."""

MONTH = re.compile(r"(19[7-9]|2\d\d)\d-(0[1-9]|1[0-2])\Z")
"""A month that a run id can have: whoever owns a folder can make as many names as fit."""

TRIED = 10
"""Generations that are opened at most until one is whole."""

_GENERATION = re.compile(r"g(\d{8})\.h5\Z")
_MARK = re.compile(r"(\d{4}-\d\d)\.[0-9a-f]{8}\Z")

TIMES = ("created", "started", "ended", "took")
WORDS = ("experiment", "target", "status", "verdict")


class Files(NamedTuple):
    """What lies in an index folder: generations, greatest first, and marks."""

    generations: Sequence[int]
    marks: Sequence[str]

    @property
    def reopened(self) -> set[str]:
        """The months with a mark."""
        return {mark.partition(".")[0] for mark in self.marks}

    @classmethod
    def of(cls, folder: str) -> Files:
        names = files_in(folder)
        numbers = [int(m.group(1)) for m in map(_GENERATION.match, names) if m]
        return cls(sorted(numbers, reverse=True), [name for name in names if _MARK.match(name)])


def generation_path(folder: str, number: int) -> Path:
    """The name of a generation."""
    return Path(folder, f"g{number:08d}.h5")


def reopen(own: UserPaths, run_id: str, now: float) -> None:
    """Marks the month of a run that is sealed or deleted, unless it is this one. OSError."""
    month = month_of(run_id)
    if month >= month_of_seconds(int(now)):
        return
    Path(own.indexes).mkdir(exist_ok=True)
    Path(own.indexes, f"{month}.{os.urandom(4).hex()}").touch()


def may_close(month: str, now: float) -> bool:
    """Whether a month is over by any clock."""
    return month < month_of_seconds(int(now) - SKEW)


class Generation:
    """One generation that is open: a context manager. `open_generation` opens it."""

    def __init__(self, columns: Columns) -> None:
        self.path = columns.path
        self._columns = columns

    @cached_property
    def _catalog(self) -> Mapping[str, Any]:
        catalog: Mapping[str, Any] = json.loads(self._columns.text("catalog"))
        return catalog

    @property
    def months(self) -> Mapping[str, tuple[int, int, bool]]:
        """Begin and end of each month's rows, and whether it is closed."""
        months = self._catalog["months"]
        if not all(map(MONTH.match, months)):
            raise Damaged(self.path, "it tells of what is no month")
        return {month: tuple(told) for month, told in months.items()}

    @property
    def count(self) -> int:
        """How many runs it knows."""
        with whole(self.path):
            count = self._catalog["count"]
            if not is_count(count):
                raise ValueError(f"it knows {count!r} runs")
            return int(count)

    @cached_property
    def run_ids(self) -> Sequence[str]:
        """The ids, newest first."""
        return self._columns.text("run_id").decode().splitlines()

    def ids(self, begin: int, end: int) -> Sequence[str]:
        """The ids at some places that follow each other; no more is read."""
        cut = self._cut("run_id", begin, end)
        text = self._columns.text("run_id", cut[0][0], cut[-1][1]) if cut else b""
        return text.decode().splitlines()

    def ids_at(self, places: Sequence[int]) -> Sequence[str]:
        """The ids at some places."""
        stop = max(places, default=-1) + 1
        ends = self._columns.read("run_id_end", 0, stop)
        text = self._columns.text("run_id", 0, int(ends[-1]) if stop else 0)
        cut = ((int(ends[place - 1]) if place else 0, int(ends[place])) for place in places)
        return [text[begin:end].decode().rstrip() for begin, end in cut]

    def sealed_in(self, month: str) -> dict[str, int]:
        """run id → number of the sealed file, of the runs of a month."""
        begin, end, _ = self.months.get(month, (0, 0, False))
        numbers = self._columns.read("number", begin, end).tolist()
        return dict(zip(self.ids(begin, end), numbers, strict=True))

    def rows(self, places: Sequence[int]) -> list[Row]:
        """What is known of the runs at these places."""
        if not places:
            return []
        first, last = min(places), max(places) + 1
        cut = self._cut("row", first, last)
        if len(cut) > len(places):
            found = (self._columns.text("row", *cut[place - first]) for place in places)
            return [Row.decode(text) for text in found]
        text, offset = self._columns.text("row", cut[0][0], cut[-1][1]), cut[0][0]
        pieces = (cut[place - first] for place in places)
        return [Row.decode(text[begin - offset : end - offset]) for begin, end in pieces]

    def _cut(self, column: str, begin: int, end: int) -> list[tuple[int, int]]:
        """Begin and end of each text of a column, at places that follow each other."""
        before = 1 if begin else 0
        ends = self._columns.read(f"{column}_end", begin - before, end).tolist()
        ends = ends if before else [0, *ends]
        return list(pairwise(ends))

    def texts(self) -> dict[str, bytes]:
        """run id → its row as it is stored."""
        ends = self._columns.read("row_end").tolist()
        text = self._columns.text("row")
        begins = [0, *ends][: len(ends)]
        cut = zip(self.run_ids, begins, ends, strict=True)
        return {run_id: text[begin:end] for run_id, begin, end in cut}

    def where(self, column: str, word: str) -> numpy.ndarray:
        """The places of the runs that have this word in a column of texts."""
        import numpy

        words = self._catalog["words"][column]
        if word not in words:
            return numpy.empty(0, numpy.int64)
        return numpy.flatnonzero(self._columns.read(column) == words.index(word))

    def visible(self, children: bool, archived: bool, until: Mapping[str, float]) -> numpy.ndarray:
        """Whether each run is shown. until: by experiment, when its runs so far were archived."""
        import numpy

        shown = numpy.ones(self.count, bool)
        if not children:
            shown &= self._columns.read("child") == 0
        if not archived:
            shown &= self._columns.read("archived") == 0
            for experiment, seconds in until.items():
                places = self.where("experiment", experiment)
                shown[places[self._columns.read("created")[places] <= seconds]] = False
        return shown

    def sorted_by(self, column: str, descending: bool) -> numpy.ndarray:
        """The places of the runs that have a value, by that of a column or else of a metric."""
        import numpy

        places: numpy.ndarray | None = None
        if column in (*WORDS, *TIMES):
            values = self._columns.read(column).astype("float64")
        else:
            begin, end = self._catalog["metrics"].get(column, (0, 0))
            places = self._columns.read("metric_row", begin, end)
            values = self._columns.read("metric_value", begin, end)
        order = numpy.argsort(-values if descending else values, kind="stable")
        order = order[: len(values) - int(numpy.isnan(values).sum())]
        return order if places is None else places[order]

    def close(self) -> None:
        """Closes the file."""
        self._columns.close()

    def __enter__(self) -> Generation:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


READERS: Mapping[int, Callable[[Columns], Generation]] = {1: Generation}
"""What reads a generation of each format."""


def open_generation(path: Path) -> Generation:
    """Opens a generation. Damaged, NewerFormat, OSError."""
    return opened(path, KIND, READERS)


def newest_generation(folder: str, files: Files) -> tuple[int, Generation] | None:
    """The generation with the greatest number that can be read, and its number."""
    for number in files.generations[:TRIED]:
        with contextlib.suppress(Damaged, NewerFormat, FileNotFoundError):
            return number, open_generation(generation_path(folder, number))
    return None


def write_generation(
    folder: str, number: int, rows: Mapping[str, bytes], closed: Iterable[str]
) -> bool:
    """Publishes a generation; False if somebody else made one of that number. OSError.

    rows: run id → `Row.encode()`. closed: the months that need not be listed again.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    path = generation_path(folder, number)
    return publish(path, _encoded(rows, set(closed)), lambda aside: _verify(aside, len(rows)))


def tidy(folder: str, files: Files) -> None:
    """Removes marks that were seen before the newest generation was made, and old generations."""
    old = Files.of(folder).generations[KEPT:]
    for path in [Path(folder, m) for m in files.marks] + [generation_path(folder, n) for n in old]:
        path.unlink(missing_ok=True)


def _verify(path: Path, count: int) -> None:
    check(path, KIND)
    with open_generation(path) as written:
        if len(written.run_ids) != count:
            raise Damaged(path, f"it has {len(written.run_ids)} rows of {count}")


def _encoded(rows: Mapping[str, bytes], closed: set[str]) -> bytes:
    ids = sorted(rows, key=newest_first)
    known = [Row.decode(rows[run_id]) for run_id in ids]
    columns: dict[str, array[Any] | bytes] = {
        "run_id": "".join(f"{run_id}\n" for run_id in ids).encode(),
        "run_id_end": _ends([f"{run_id}\n".encode() for run_id in ids]),
        "number": array("I", [row.number for row in known]),
        "row": b"".join(rows[run_id] for run_id in ids),
        "row_end": _ends([rows[run_id] for run_id in ids]),
    }
    for name in TIMES:
        columns[name] = array("d", [sort_value(row, name) for row in known])
    columns["child"] = array("B", [row.record.parent is not None for row in known])
    columns["archived"] = array("B", [row.record.archived for row in known])
    words = {}
    for name in WORDS:
        texts = [sort_text(row.record, name) for row in known]
        words[name] = sorted(set(texts))
        places = {text: place for place, text in enumerate(words[name])}
        columns[name] = array("I", [places[text] for text in texts])
    by_metric: dict[str, list[tuple[int, float]]] = {}
    for place, row in enumerate(known):
        for name, value in row.metrics.items():
            by_metric.setdefault(name, []).append((place, value))
    metrics, begin = {}, 0
    for name in sorted(by_metric):
        metrics[name] = [begin, begin + len(by_metric[name])]
        begin += len(by_metric[name])
    points = [point for name in sorted(by_metric) for point in by_metric[name]]
    columns["metric_row"] = array("q", [place for place, _ in points])
    columns["metric_value"] = array("d", [value for _, value in points])
    catalog = {
        "count": len(ids),
        "months": _months(ids, closed),
        "words": words,
        "metrics": metrics,
    }
    return encode(KIND, FORMAT, {"catalog": json.dumps(catalog).encode(), **columns})


def _ends(texts: Sequence[bytes]) -> array[int]:
    ends, end = array("q"), 0
    for text in texts:
        end += len(text)
        ends.append(end)
    return ends


def _months(ids: Sequence[str], closed: set[str]) -> dict[str, list[int]]:
    months: dict[str, list[int]] = {month: [0, 0, 1] for month in closed}
    for place, run_id in enumerate(ids):
        month = month_of(run_id)
        begin = months[month][0] if month in months and months[month][1] else place
        months[month] = [begin, place + 1, int(month in closed)]
    return months


def sort_value(row: Row, name: str) -> float:
    """A column of times, or a metric, of one run; nan for what is not known."""
    record = row.record
    took = (record.ended or math.nan) - (record.started or math.nan)
    known = {"created": record.created, "started": record.started, "ended": record.ended}
    value = {**known, "took": took}.get(name, row.metrics.get(name)) if name else None
    return math.nan if value is None else float(value)


def sort_text(record: RunRecord, name: str) -> str:
    """A column of texts of one run."""
    if name == "verdict":
        return str(record.verdict.cause) if record.verdict else ""
    return str(record.state) if name == "status" else str(getattr(record, name))
