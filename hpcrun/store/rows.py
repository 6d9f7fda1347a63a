"""One run in a listing: its record without most of its request, and last values of its metrics."""

from __future__ import annotations

import json
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
from hpcrun.layout import RUN_ID, Attempt
from hpcrun.record import AttemptRecord, Imported, RankEnd, RunRecord, Uncollected, Verdict
from hpcrun.state import Cause, State


class Row(NamedTuple):
    """What a listing knows of a run.

    number: of its sealed file, -1 where it is not all in one. metrics: last values, where they
    are finite numbers.
    """

    record: RunRecord
    number: int
    metrics: Mapping[str, float]

    def encode(self) -> bytes:
        """As JSON. Of the request only parent and private are kept, and uploads are left out."""
        record = {**self.record._asdict(), "uploads": ()}
        kept = {name: self.record.request.get(name) for name in ("parent", "private")}
        record["request"] = {name: value for name, value in kept.items() if value is not None}
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
        return cls(record, value["number"], value["metrics"])


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
)
_TEXTS = ("run_id", "experiment", "user", "target", "display_name", "description")
_is_record = _fields(
    **dict.fromkeys(_TEXTS, is_text),
    created=is_time,
    attempts=array_of(_is_attempt),
    **dict.fromkeys(("tags", "properties"), _are_texts_by_name),
    request=_fields(parent=or_none(is_run_id)),
    **dict.fromkeys(("children", "models", "problems"), _are_texts),
    **dict.fromkeys(("lost_records", "bad_lines"), is_count),
)
_is_row = _fields(record=_is_record, number=is_int, metrics=object_of(_is_number))
"""An index may be another user's, who can write anything there."""


def newest_first(run_id: str) -> tuple[int, str]:
    """The order of listings."""
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
    "undrained": tuple,
    "uncollected": lambda told: tuple(Uncollected(*left) for left in told),
}

_RECORD: Mapping[str, Callable[[Any], Any]] = {
    "state": State,
    "attempts": lambda told: tuple(AttemptRecord(**_formed(one, _ATTEMPT)) for one in told),
    "imported": lambda told: Imported(*told) if told is not None else None,
    **dict.fromkeys(("children", "models", "uploads", "problems"), tuple),
}
