"""The words of `hpcrun list --columns` and `--sort`: what they mean, and what they show of a run.

status            a column
tags.kind         a tag; properties.NAME: a property
metrics.loss      a metric's last value; metrics.loss:min, :max: its least and greatest;
                  --sort takes a metric by its bare name too, where no column has it
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from hpcrun.cli.output import how_long, number, when
from hpcrun.errors import ConfigError, Problem
from hpcrun.moments import iso
from hpcrun.reading import nearest
from hpcrun.record import Numbers, RunRecord
from hpcrun.store.rows import TIMES, WORDS, Row, sort_value
from hpcrun.store.wanted import Key, Order, type_of

METRICS, TAGS, PROPERTIES = "metrics.", "tags.", "properties."

SORTED_BY = (*TIMES, *WORDS)
"""The columns by which runs can be sorted."""

SHOWN = ("run", "status", "target", "job", "created", "took", "verdict")
"""What a list shows that is asked for no columns."""


class Column(NamedTuple):
    """What a list shows of each run. name: as it was asked for. told: a value as JSON has it."""

    name: str
    value: Callable[[Row], Any]
    text: Callable[[Any], str]
    told: Callable[[Any], Any] = lambda value: value


def parse_columns(text: str) -> list[Column]:
    """From `run,metrics.loss,tags.kind`. ConfigError."""
    return [parse_column(name.strip()) for name in text.split(",")]


def parse_column(name: str) -> Column:
    """A column by its name. ConfigError."""
    if name.startswith(METRICS):
        return metric_column(name, _metric(name.removeprefix(METRICS)))
    known = _labelled(name) or _COLUMNS.get(_OTHER_NAMES.get(name, name))
    if known is None:
        words = (*_COLUMNS, *(f"{begin}NAME" for begin in (METRICS, TAGS, PROPERTIES)))
        raise ConfigError(Problem(f"there is no column {name!r}", nearest(name, words)))
    return known._replace(name=name)


def _labelled(name: str) -> Column | None:
    """A tag or a property; None: the name is another one."""
    kind, dot, key = name.partition(".")
    if dot and kind == "tags":
        return _of(lambda record: record.tags.get(key))
    if dot and kind == "properties":
        return _of(lambda record: record.properties.get(key))
    return None


def metric_column(name: str, key: Key) -> Column:
    """A number of a metric."""
    return Column(name, lambda row: _number(row, key), number)


def parse_order(text: str) -> Order:
    """From `created`, `metrics.loss`, `loss` or `-metrics.accuracy:max`. ConfigError."""
    name = text.removeprefix("-")
    descending = name != text
    column = _OTHER_NAMES.get(name, name)
    if column in SORTED_BY:
        return Order(Key(column), descending)
    if column in _COLUMNS or name.startswith((TAGS, PROPERTIES)):
        hint = f"{', '.join(SORTED_BY)} and metrics.NAME can"
        raise ConfigError(Problem(f"runs cannot be sorted by {name!r}", hint))
    return Order(_metric(name.removeprefix(METRICS)), descending)


def label_of(key: Key) -> str:
    """A number of a metric, as short as --sort takes it."""
    return key.name if _metric(key.name) == key else f"{key.name}:{key.of}"


def _metric(text: str) -> Key:
    name, _, of = text.rpartition(":")
    key = Key(name, of) if of in Numbers._fields else Key(text, "last")
    if not key.name:
        raise ConfigError(Problem("a metric has a name", "metrics.loss, or metrics.loss:min"))
    return key


def _number(row: Row, key: Key) -> float | None:
    value = sort_value(row, key)
    return None if value != value else value


def _took(row: Row) -> float | None:
    return row.record.took(time.time())


def _why(record: RunRecord) -> str | None:
    """Why it failed, or why it waits."""
    verdict = record.verdict
    told = verdict.sentence if verdict and verdict.cause != "completed" else record.attempt.reason
    return told or None


def _text(value: Any) -> str:
    return "-" if value in (None, "") else str(value)


def _of(read: Callable[[RunRecord], Any], text: Callable[[Any], str] = _text) -> Column:
    return Column("", lambda row: read(row.record), text)


def _time(read: Callable[[RunRecord], float | None]) -> Column:
    return Column("", lambda row: read(row.record), when, iso)


def _words(read: Callable[[RunRecord], Sequence[str]], joined: Callable[[Any], str]) -> Column:
    return Column("", lambda row: read(row.record), lambda words: joined(words) or "-", list)


def _pairs(read: Callable[[RunRecord], Mapping[str, str]]) -> Column:
    def text(pairs: Mapping[str, str]) -> str:
        return " ".join(f"{name}={value}" for name, value in pairs.items()) or "-"

    return Column("", lambda row: read(row.record), text, dict)


_COLUMNS: Mapping[str, Column] = {
    "run": _of(lambda record: record.run_id),
    "name": _of(lambda record: record.display_name or None),
    "description": _of(lambda record: record.description or None),
    "experiment": _of(lambda record: record.experiment),
    "user": _of(lambda record: record.user),
    "type": _of(type_of),
    "status": _of(lambda record: str(record.state)),
    "target": _of(lambda record: record.target),
    "site": _of(lambda record: record.target.partition("/")[0]),
    "job": _of(lambda record: record.job_id),
    "nodes": _words(lambda record: record.attempt.nodes, ",".join),
    "created": _time(lambda record: record.created),
    "started": _time(lambda record: record.started),
    "ended": _time(lambda record: record.ended),
    "took": Column("", _took, how_long),
    "verdict": _of(_why, lambda told: told or ""),
    "cause": _of(lambda record: str(record.verdict.cause) if record.verdict else None),
    "exit_code": _of(lambda record: record.verdict.exit_code if record.verdict else None),
    "attempts": _of(lambda record: len(record.attempts)),
    "command": _words(lambda record: record.command, shlex.join),
    "parent": _of(lambda record: record.parent),
    "from": _of(lambda record: record.imported.user if record.imported else None),
    "tags": _pairs(lambda record: record.tags),
    "properties": _pairs(lambda record: record.properties),
}
"""By name; docs/json.md describes them."""

_OTHER_NAMES = {"run_id": "run", "display_name": "name", "job_id": "job", "duration": "took"}
