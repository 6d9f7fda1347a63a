"""A run as one file that never changes: the bytes of its record, its metrics as columns.

    catalog   JSON: the run's id, its journals, what lies where in the columns below
    text      run.json, script.sh, claims and the journals of facts, byte for byte
    points/   value, step, time, number, origin, whole:
              one row for each logged number, by metric, in the order of its series. step: -1 for
              none. time: milliseconds. number: counts a writer's facts. origin: a place in the
              catalog's list of (writer, attempt, rank). whole: 1 for an int
    lines     all other facts of journals of metrics, one JSON array (writer and fact) a line
    artifacts the journals of images, byte for byte

What was read from journals and what is read from here is the same; `content.same` compares it.
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

from hpcrun.forms import is_count, is_ordinal, is_time
from hpcrun.layout import Attempt
from hpcrun.metrics import Metric
from hpcrun.metrics.series import SCALAR, metric_of, ordered, text_of
from hpcrun.record import Fact, is_well_formed
from hpcrun.store.content import Content, Journal
from hpcrun.store.hdf5 import Columns, encode, opened
from hpcrun.store.table import Series, Table

KIND, FORMAT = "run", 1

POINTS = "points/"
"""The group of the columns of numbers: a group of more than eight datasets takes up a kilobyte."""


def sealed(content: Content) -> bytes:
    """The file of a run."""
    table = Table()
    facts = ordered(f for f in content.metric_facts if _has_name(f))
    by_name: dict[str, list[Fact]] = {}
    for fact in facts:
        by_name.setdefault(fact.data["m"], []).append(fact)
    series = [table.add(name, by_name[name]) for name in sorted(by_name)]
    others = [fact for fact in content.metric_facts if not _has_name(fact)]
    table.add_lines(others)
    text, places = _joined(content.texts)
    images, image_places = _joined(content.artifacts)
    catalog = {
        "run_id": content.run_id,
        "texts": places,
        "artifacts": image_places,
        "journals": content.journals,
        "series": series,
        "origins": list(table.origins),
    }
    return encode(
        KIND,
        FORMAT,
        {
            "catalog": json.dumps(catalog, separators=(",", ":")).encode(),
            "text": text,
            **{POINTS + name: column for name, column in table.columns.items() if column},
            **({"lines": bytes(table.lines)} if table.lines else {}),
            **({"artifacts": images} if images else {}),
        },
    )


def _joined(texts: Mapping[str, bytes]) -> tuple[bytes, list[tuple[str, int, int]]]:
    """Texts one after another, and the name, begin and end of each."""
    ends = [*accumulate(len(data) for data in texts.values())]
    return b"".join(texts.values()), [*zip(texts, [0, *ends], ends, strict=False)]


class SealedRun:
    """A sealed file that is open: a context manager. `open_sealed` opens it."""

    def __init__(self, columns: Columns) -> None:
        self.path = columns.path
        self._columns = columns

    @cached_property
    def _catalog(self) -> Mapping[str, Any]:
        value: Mapping[str, Any] = json.loads(self._columns.text("catalog"))
        return value

    @property
    def run_id(self) -> str:
        return str(self._catalog["run_id"])

    @cached_property
    def texts(self) -> Mapping[str, bytes]:
        """run.json, script.sh, claims and the journals of facts, by their names."""
        text = self._columns.text("text")
        return {_plain_name(n): text[start:stop] for n, start, stop in self._catalog["texts"]}

    @cached_property
    def artifacts(self) -> Mapping[str, bytes]:
        """The journals of images, by their names."""
        places = self._catalog.get("artifacts", ())
        text = self._columns.text("artifacts") if places else b""
        return {_plain_name(name): text[start:stop] for name, start, stop in places}

    @cached_property
    def journals(self) -> Mapping[str, Journal]:
        """All journals that are in here, by their names."""
        return {_plain_name(value[0]): Journal(*value) for value in self._catalog["journals"]}

    @cached_property
    def series(self) -> Mapping[str, Series]:
        """The metrics, by their names: what is known of them without reading any value."""
        found = [Series(*value) for value in self._catalog["series"]]
        if not all(map(_is_series, found)):
            raise ValueError("a metric has no name, place or number")
        return {series.name: series for series in found}

    @cached_property
    def _origins(self) -> Sequence[tuple[str, Attempt, int]]:
        found = [(writer, Attempt(*a), rank) for writer, a, rank in self._catalog["origins"]]
        if not all(map(is_ordinal, (n for _, attempt, rank in found for n in (*attempt, rank)))):
            raise ValueError("an attempt has no number")
        return found

    def metric(self, name: str) -> Metric:
        """One metric. KeyError."""
        series = self.series[name]
        if not series.in_columns or not series.stands:
            return metric_of(name, self._facts(series))
        values = self._rows("value", series)
        origins = [self._origins[place] for place in self._rows("origin", series).tolist()]
        return Metric(
            name=name,
            kind=SCALAR,
            columns={name: (values.astype("int64") if series.whole else values).tolist()},
            steps=_steps(self._rows("step", series)),
            ranks=[rank for _, _, rank in origins],
            attempts=[attempt for _, attempt, _ in origins],
            times=(self._rows("time", series) / 1000).tolist(),
        )

    def last_text(self, name: str) -> str:
        """The last value of a metric, for people; of a table its size. KeyError."""
        series = self.series[name]
        if not series.in_columns or not series.stands or series.stop == series.start:
            return self.metric(name).last_text()
        (last,) = self._columns.read(f"{POINTS}value", series.stop - 1, series.stop).tolist()
        return text_of(int(last) if series.whole else last)

    def points(self, name: str) -> tuple[Any, Any]:
        """(steps, values) of a metric as arrays, in the order of its series; -1 for no step.

        KeyError if there is none, or if it holds anything but numbers.
        """
        series = self.series[name]
        if not series.in_columns:
            raise KeyError(name)
        if not series.stands:
            metric = self.metric(name)
            steps = [-1 if step is None else step for step in metric.steps]
            return array("q", steps), array("d", [float(str(value)) for value in metric.values])
        return self._rows("step", series), self._rows("value", series)

    def metric_facts(self) -> list[Fact]:
        """All that the journals of metrics told; each fact once."""
        in_columns = (series for series in self.series.values() if series.in_columns)
        return [fact for series in in_columns for fact in self._facts(series)] + self.notes()

    def notes(self) -> list[Fact]:
        """What the journals of metrics told besides numbers: images, files, samples of nodes."""
        return self._lines(0, None)

    def content(self) -> Content:
        """All that is in here. ValueError and others where it tells what cannot be."""
        journals = tuple(self.journals.values())
        return Content(self.run_id, self.texts, self.metric_facts(), journals, self.artifacts)

    @property
    def expanded(self) -> int:
        """The bytes that reading all of it takes at least."""
        return self._columns.expanded

    def close(self) -> None:
        """Closes the file."""
        self._columns.close()

    def __enter__(self) -> SealedRun:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _rows(self, column: str, series: Series) -> Any:
        rows = self._columns.read(POINTS + column, series.start, series.stop)
        if len(rows) != series.stop - series.start:
            raise ValueError(f"the column {column} is too short")
        if column == "time" and len(rows) and not all(map(is_time, _seconds(rows))):
            raise ValueError("a time is none")
        return rows

    def _facts(self, series: Series) -> list[Fact]:
        if not series.in_columns:
            return self._lines(series.start, series.stop)
        rows = zip(
            *(self._rows(name, series).tolist() for name in Table.COLUMNS),
            strict=True,
        )
        return [self._fact(series.name, *row) for row in rows]

    def _fact(
        self, name: str, value: float, step: int, time: int, number: int, origin: int, whole: int
    ) -> Fact:
        writer, attempt, rank = self._origins[origin]
        data: dict[str, Any] = {"m": name, "v": int(value) if whole else _plain(value)}
        if step >= 0:
            data["s"] = step
        if rank:
            data["r"] = rank
        return Fact("metric", attempt, time / 1000, number, data, writer)

    def _lines(self, start: int, stop: int | None) -> list[Fact]:
        if "lines" not in self._columns:
            return []
        found = []
        for line in self._columns.text("lines", start, stop).splitlines():
            writer, kind, attempt, time, number, data = json.loads(line)
            fact = Fact(kind, Attempt(*attempt), time, number, data, writer)
            if is_well_formed(fact):  # as in a journal, what is not is passed over
                found.append(fact)
        return found


READERS: Mapping[int, Callable[[Columns], SealedRun]] = {1: SealedRun}
"""What reads a sealed file of each format."""


def open_sealed(path: Path) -> SealedRun:
    """Opens a sealed file. Damaged, NewerFormat, OSError."""
    return opened(path, KIND, READERS)


def _is_series(series: Series) -> bool:
    places = (series.start, series.stop, series.length)
    last = series.last
    known = last is None or (type(last) in (int, float) and math.isfinite(last))
    texts = isinstance(series.name, str) and isinstance(series.kind, str)
    return known and texts and all(map(is_count, places))


def _plain_name(name: object) -> str:
    """The name of a file of a record: it leads nowhere else, whoever wrote it. ValueError."""
    if not isinstance(name, str) or "/" in name or "\0" in name or name in ("", ".", ".."):
        raise ValueError(f"{name!r} is no name of a file")
    return name


def _has_name(fact: Fact) -> bool:
    return fact.kind == "metric" and isinstance(fact.data.get("m"), str)


def _plain(value: float) -> Any:
    return value if math.isfinite(value) else {"f": repr(value)}


def _seconds(times: Any) -> tuple[float, float]:
    """The first and the last of times in milliseconds."""
    return float(times.min()) / 1000, float(times.max()) / 1000


def _steps(steps: Any) -> list[int | None]:
    found = steps.tolist()
    return [None if step < 0 else step for step in found] if (steps < 0).any() else found
