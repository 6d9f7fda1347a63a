"""One run in a listing: its record without most of its request, and what its metrics came to."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from hpcrun.forms import (
    Check,
    array_of,
    is_count,
    is_int,
    is_ordinal,
    is_run_id,
    is_text,
    is_time,
    object_of,
    or_none,
    tuple_of,
)
from hpcrun.kinds import is_fact
from hpcrun.layout import RUN_ID, Attempt
from hpcrun.record import (
    AttemptRecord,
    Imported,
    Numbers,
    RankEnd,
    RunRecord,
    Uncollected,
    Verdict,
)
from hpcrun.state import Cause, State
from hpcrun.store.wanted import Key

TIMES = ("created", "started", "ended", "took")
WORDS = ("experiment", "target", "status", "verdict")


class Row(NamedTuple):
    """What a listing knows of a run.

    number: of its sealed file, -1 where it is not all in one. metrics: by name, those that have
    any number.
    """

    record: RunRecord
    number: int
    metrics: Mapping[str, Numbers]

    def encode(self) -> bytes:
        """As JSON. Of the request parent, private and command are kept; uploads are left out."""
        record = {**self.record._asdict(), "request": _request(self.record), "uploads": ()}
        record["attempts"] = [_plain(attempt) for attempt in self.record.attempts]
        value = {"record": record, "number": self.number, "metrics": self.metrics}
        return json.dumps(value, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, text: bytes) -> Row:
        """From JSON. ValueError, TypeError, LookupError: it is none."""
        value = json.loads(text)
        if not _is_row(value) or not value["record"]["attempts"]:
            raise TypeError("a row has other types")
        record = RunRecord(**_formed(value["record"], _RECORD))
        metrics = {name: Numbers(*told) for name, told in value["metrics"].items()}
        return cls(record, value["number"], metrics)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _fields(**checks: Check) -> Check:
    """Whether it is an object of which all that is told is of a form."""
    return lambda value: (
        isinstance(value, dict)
        and all(check(value[n]) for n, check in checks.items() if n in value)
    )


_are_texts, _are_texts_by_name = array_of(is_text), object_of(is_text)
_is_verdict = _fields(
    sentence=is_text,
    evidence=_are_texts,
    exit_code=or_none(is_int),
    signal=or_none(is_int),
    rank=or_none(is_ordinal),
)
_is_attempt = _fields(
    attempt=tuple_of(is_ordinal, is_ordinal),
    job_id=or_none(is_text),
    host=or_none(is_text),
    nodes=_are_texts,
    **dict.fromkeys(("submitted", "started", "ended", "starts"), or_none(is_time)),
    heartbeats=is_count,
    rank_ends=array_of(tuple_of(is_ordinal, is_int, is_text, is_time)),
    reason=is_text,
    verdict=or_none(_is_verdict),
    undrained=_are_texts,
    uncollected=array_of(tuple_of(is_text, is_count, is_count, is_text)),
    data=array_of(lambda told: is_fact("data", told)),
)
_TEXTS = ("run_id", "experiment", "user", "target", "display_name", "description")
_are_numbers = tuple_of(*[or_none(_is_number)] * len(Numbers._fields))
_is_record = _fields(
    **dict.fromkeys(_TEXTS, is_text),
    created=is_time,
    attempts=array_of(_is_attempt),
    **dict.fromkeys(("tags", "properties"), _are_texts_by_name),
    request=_fields(parent=or_none(is_run_id)),
    **dict.fromkeys(("children", "models", "problems"), _are_texts),
    **dict.fromkeys(("lost_records", "bad_lines"), is_count),
)
_is_row = _fields(record=_is_record, number=is_int, metrics=object_of(_are_numbers))
"""An index may be another user's, who can write anything there."""


def _request(record: RunRecord) -> dict[str, Any]:
    """What is kept of it."""
    kept = {name: record.request.get(name) for name in ("parent", "private")}
    told = {name: value for name, value in kept.items() if value is not None}
    return {**told, **({"launch": {"command": record.command}} if record.command else {})}


def sort_value(row: Row, key: Key) -> float:
    """A column of times, or a number of a metric, of one run; nan for what is not known."""
    record = row.record
    if key.of:
        value = getattr(row.metrics.get(key.name, Numbers()), key.of)
    elif key.name == "took":
        value = record.took(math.nan)
    else:
        value = getattr(record, key.name)
    return math.nan if value is None else float(value)


def sort_text(record: RunRecord, name: str) -> str:
    """A column of texts of one run."""
    if name == "verdict":
        return str(record.verdict.cause) if record.verdict else ""
    return str(record.state) if name == "status" else str(getattr(record, name))


def order_of(run_id: str, created: float) -> tuple[int, float, str]:
    """The order of listings. created: Unix seconds."""
    second, _ = newest_first(run_id)
    return second, -created, run_id


def newest_first(run_id: str) -> tuple[int, str]:
    """The order of listings as far as ids tell it, which is to the second."""
    match = RUN_ID.match(run_id)
    assert match is not None, run_id
    return -int(match.group("seconds")), run_id


def _plain(attempt: AttemptRecord) -> dict[str, Any]:
    verdict = attempt.verdict._asdict() if attempt.verdict is not None else None
    return {**attempt._asdict(), "verdict": verdict}


def _formed(told: Mapping[str, Any], forms: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    """What JSON has as arrays and texts as what it was. What an older hpcrun did not tell lacks."""
    return {name: forms[name](value) if name in forms else value for name, value in told.items()}


def _verdict(told: Mapping[str, Any] | None) -> Verdict | None:
    return Verdict(**_formed(told, {"cause": Cause, "evidence": tuple})) if told else None


_ATTEMPT: Mapping[str, Callable[[Any], Any]] = {
    "attempt": lambda told: Attempt(*told),
    "state": State,
    "nodes": tuple,
    "rank_ends": lambda told: tuple(RankEnd(*end) for end in told),
    "verdict": _verdict,
    **dict.fromkeys(("undrained", "data"), tuple),
    "uncollected": lambda told: tuple(Uncollected(*left) for left in told),
}

_RECORD: Mapping[str, Callable[[Any], Any]] = {
    "state": State,
    "attempts": lambda told: tuple(AttemptRecord(**_formed(one, _ATTEMPT)) for one in told),
    "imported": lambda told: Imported(*told) if told is not None else None,
    **dict.fromkeys(("children", "models", "uploads", "problems"), tuple),
}
