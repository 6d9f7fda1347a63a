"""The index of a user's sealed runs: generations, each a file of columns that never changes.

    index/g00000001.h5         one row per sealed run, newest first; the greatest number counts
    index/<yyyy-mm>.<8 hex>    a mark: something was sealed into a month that may be closed

    catalog    JSON: `months` (begin and end of its rows, whether closed), `words` of the columns of
               texts, `metrics` (begin and end in metric_row and beside it)
    run_id     the ids, a line each; run_id_end: where each ends; number: of the sealed file
    second     when it was made, by its id
    row        the record as JSON and what its metrics came to; row_end: where each ends
    created, started, ended, took               seconds, nan for what is not known
    experiment, target, status, verdict         a place in the catalog's words, which are sorted
    child, archived                             1 for a child run, and for an archived one
    metric_row, metric_last, metric_min, metric_max
                                                by metric: who has it, and what it came to, or nan
    label      the tags and properties that any run has, each once and sorted: a JSON array of
               `tags` or `properties`, name and value; label_end: where each ends
    label_row, label_row_end                    by label: who has it, and where these end

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
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hpcrun.forms import is_count
from hpcrun.layout import INTERACTIVE, UserPaths, month_of, month_of_seconds
from hpcrun.store.formats import NewerFormat
from hpcrun.store.hdf5 import Columns, Damaged, opened, whole
from hpcrun.store.plain import files_in
from hpcrun.store.rows import Row
from hpcrun.store.wanted import SCRIPT_RUN, Order, Wanted

if TYPE_CHECKING:
    import numpy

KIND, FORMAT = "index", 1

KEPT = 3
"""Generations that stay: who reads an older one may go on."""

SPARSE = 50
"""Of how many texts one must be wanted, for all between them to be read at once."""

SKEW = 2 * 86400
"""Seconds by which clocks may differ where the end of a month is judged."""

MONTH = re.compile(r"(19[7-9]|2\d\d)\d-(0[1-9]|1[0-2])\Z")
"""A month that a run id can have: whoever owns a folder can make as many names as fit."""

TRIED = 10
"""Generations that are opened at most until one is whole."""

_GENERATION = re.compile(r"g(\d{8})\.h5\Z")
_MARK = re.compile(r"(\d{4}-\d\d)\.[0-9a-f]{8}\Z")


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
        try:
            names = files_in(folder)
        except PermissionError:
            names = []  # somebody else's: the months tell all that it does
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
        return [text.decode().rstrip() for text in self._texts("run_id", places)]

    def created_at(self, places: Sequence[int]) -> list[float]:
        """When the runs at some places were made, in Unix seconds."""
        created = self._columns.read("created")
        return [float(created[place]) for place in places]

    def sealed_in(self, month: str) -> dict[str, int]:
        """run id → number of the sealed file, of the runs of a month."""
        begin, end, _ = self.months.get(month, (0, 0, False))
        numbers = self._columns.read("number", begin, end).tolist()
        return dict(zip(self.ids(begin, end), numbers, strict=True))

    def rows(self, places: Sequence[int]) -> list[Row]:
        """What is known of the runs at these places."""
        return [Row.decode(text) for text in self._texts("row", places)]

    def _texts(self, column: str, places: Sequence[int]) -> list[bytes]:
        """Texts of a column. What lies between them is read too, where that is not much."""
        if not places:
            return []
        first, last = min(places), max(places) + 1
        if last - first > SPARSE * len(places):
            cuts = (self._cut(column, place, place + 1)[0] for place in places)
            return [self._columns.text(column, *cut) for cut in cuts]
        cut = self._cut(column, first, last)
        text, offset = self._columns.text(column, cut[0][0], cut[-1][1]), cut[0][0]
        pieces = (cut[place - first] for place in places)
        return [text[begin - offset : end - offset] for begin, end in pieces]

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

    def wanted(self, wanted: Wanted, archived: Mapping[str, float]) -> numpy.ndarray:
        """Whether each run is wanted. archived: by experiment, until when its runs are."""
        import numpy

        begin, end = self._made(wanted.since, wanted.until)
        found = numpy.zeros(self.count, bool)
        found[begin:end] = True
        if not wanted.children:
            found &= self._columns.read("child") == 0
        if wanted.view != "All":
            hidden = self._hidden(archived)
            found &= hidden if wanted.view == "ArchivedOnly" else ~hidden
        for column, word in (("experiment", wanted.experiment), ("status", wanted.status)):
            if word is not None:
                found &= self._has_word(column, word)
        if wanted.type is not None:
            interactive = self._has_word("target", INTERACTIVE)
            types = {INTERACTIVE: interactive, SCRIPT_RUN: ~interactive}
            found &= types.get(wanted.type, numpy.zeros(self.count, bool))
        for kind, names in (("tags", wanted.tags), ("properties", wanted.properties)):
            for name, value in names.items():
                found &= self._has_label(kind, name, value)
        return found

    def _made(self, since: float, until: float) -> tuple[int, int]:
        """Begin and end of the runs of a time: the newest stand first."""
        if (since, until) == (-math.inf, math.inf):
            return 0, self.count
        import numpy

        ages = -self._columns.read("second").astype("float64")
        begin, end = numpy.searchsorted(ages, (-until, -since), side="right").tolist()
        return begin, end

    def _hidden(self, archived: Mapping[str, float]) -> numpy.ndarray:
        hidden: numpy.ndarray = self._columns.read("archived") != 0
        for experiment, seconds in archived.items():
            hidden |= self._has_word("experiment", experiment) & (
                self._columns.read("created") <= seconds
            )
        return hidden

    def _has_word(self, column: str, word: str) -> numpy.ndarray:
        import numpy

        words = self._catalog["words"][column]
        if word not in words:
            return numpy.zeros(self.count, bool)
        has: numpy.ndarray = self._columns.read(column) == words.index(word)
        return has

    def _has_label(self, kind: str, name: str, value: str | None) -> numpy.ndarray:
        """Which runs have a tag, or a property, with that value or with any."""
        import numpy

        least = greatest = label(kind, name, value or "")
        if value is None:  # those of one name follow each other
            least = least.removesuffix(b'""]')
            greatest = least + b"\xff"
        labels = range(self._columns.length("label_end"))
        first = bisect_left(labels, least, key=self._label_at)
        last = bisect_right(labels, greatest, key=self._label_at)
        begin, end = self._label_rows(first), self._label_rows(last)
        found = numpy.zeros(self.count, bool)
        found[self._columns.read("label_row", begin, end)] = True
        return found

    def _label_at(self, place: int) -> bytes:
        (cut,) = self._cut("label", place, place + 1)
        return self._columns.text("label", *cut)

    def _label_rows(self, place: int) -> int:
        """Where the rows of a label begin."""
        return int(self._columns.read("label_row_end", place - 1, place)[0]) if place else 0

    def sorted_by(self, order: Order) -> numpy.ndarray:
        """The places of the runs that have a value, in that order."""
        import numpy

        key, places = order.key, None
        if not key.of:
            values = self._columns.read(key.name).astype("float64")
        else:
            begin, end = self._catalog["metrics"].get(key.name, (0, 0))
            places = self._columns.read("metric_row", begin, end)
            values = self._columns.read(f"metric_{key.of}", begin, end)
        found = numpy.argsort(-values if order.descending else values, kind="stable")
        found = found[: len(values) - int(numpy.isnan(values).sum())]
        return found if places is None else places[found]

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
        with contextlib.suppress(Damaged, NewerFormat, FileNotFoundError, PermissionError):
            return number, open_generation(generation_path(folder, number))
    return None


def label(kind: str, name: str, value: str) -> bytes:
    """A tag or property as its label, in ASCII."""
    return json.dumps([kind, name, value], separators=(",", ":")).encode()
