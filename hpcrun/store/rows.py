"""One run in a listing: its record without most of its request, and last values of its metrics."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

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
        """As JSON. Of the request only the parent is kept, and uploads are left out."""
        record = {**self.record._asdict(), "request": {}, "uploads": ()}
        if self.record.parent is not None:
            record["request"] = {"parent": self.record.parent}
        record["attempts"] = [_plain(attempt) for attempt in self.record.attempts]
        value = {"record": record, "number": self.number, "metrics": self.metrics}
        return json.dumps(value, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, text: bytes) -> Row:
        """From JSON. ValueError, TypeError, LookupError: it is none."""
        value = json.loads(text)
        record = value["record"]
        fits = all(isinstance(record[name], kind) for name, kind in _TYPES)
        if not fits or not _has_times(record):
            raise TypeError("a record has other types")
        return cls(RunRecord(**_formed(record, _RECORD)), value["number"], value["metrics"])


_TEXTS = ("run_id", "experiment", "user", "target", "display_name", "description")
_TYPES = [*((name, str) for name in _TEXTS), ("tags", dict), ("properties", dict)]


def _has_times(record: Mapping[str, Any]) -> bool:
    """Whether it has attempts, and all times are numbers."""
    names = ("submitted", "started", "ended")
    times = [told[name] for told in record["attempts"] for name in names]
    known = [time for time in times if time is not None]
    numbers = all(isinstance(time, (int, float)) for time in [record["created"], *known])
    return numbers and bool(record["attempts"])


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
