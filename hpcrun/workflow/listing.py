"""Listing runs: rows of the index, and records of the runs that it does not know."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import groupby, islice, takewhile
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from hpcrun.errors import StoreError
from hpcrun.layout import UserPaths
from hpcrun.record import Numbers, RunRecord
from hpcrun.rights import kept_to
from hpcrun.store.experiments import archived_experiments
from hpcrun.store.rows import WORDS, Row, newest_first, order_of, sort_text, sort_value
from hpcrun.store.wanted import Order, Wanted
from hpcrun.workflow.session import Session

if TYPE_CHECKING:
    from hpcrun.store.history import Asked, History

EVERYBODY = "all"
"""In place of a user: all users of the workspace."""


MANY_UNREAD = 100
"""Runs of another user that cannot be read, after which no more are tried."""

SHOWN = Wanted()
"""What a list shows that is asked for nothing."""


def list_rows(
    session: Session,
    limit: int | None,
    wanted: Wanted = SHOWN,
    user: str | None = None,
    order: Order | None = None,
    numbers: bool = False,
    tell: Callable[[StoreError], None] = lambda error: None,
) -> list[Row]:
    """Runs of a user (`EVERYBODY`: of all), newest first, or in that order.

    limit: how many; None for all. numbers: whether what their metrics came to is needed besides
    the order. tell: hears of a run that cannot be read.
    """
    if user == EVERYBODY:
        rows = []
        for each in session.store.users():
            try:
                rows += list_rows(session, limit, wanted, each, order, numbers, tell)
            except StoreError as error:
                tell(error)
    else:
        rows = _rows_of(session, limit, wanted, user, order, numbers, tell)
    rows.sort(key=lambda row: order_of(row.record.run_id, row.record.created))
    if order is not None:
        rows.sort(key=lambda row: _sort_key(row, order))
    return rows[:limit]


def _rows_of(
    session: Session,
    limit: int | None,
    wanted: Wanted,
    user: str | None,
    order: Order | None,
    numbers: bool,
    tell: Callable[[StoreError], None],
) -> list[Row]:
    """Those of one user that come first, in any order."""
    if order is not None or wanted.needs_records:
        _index_if_worthwhile(session, user)
    asked = _asked(session, wanted, user, order)
    known = session.store.through_history(
        user, session.cache, lambda history: _known(history, limit, asked)
    )
    beside = sorted((run_id for ids, _ in known for run_id in ids), key=newest_first)
    rows = [row for _, found in known for row in found]
    records = _readable(session, beside, user, tell)
    fitting = (record for record in records if wanted.fits(record, asked.archived))
    enough = limit if order is None and wanted.status is None else None
    found = session.refreshed(_first(fitting, enough))
    numbers = numbers or (order is not None and bool(order.key.of))
    rows += _rows(session, found, numbers, tell)
    return [row for row in rows if wanted.status in (None, row.record.state)]


def _first(records: Iterator[RunRecord], count: int | None) -> Iterator[RunRecord]:
    """So many, and the others of the last one's second: ids tell no order within one."""
    last = None
    for record in islice(records, count):
        last = record
        yield record
    if last is not None:
        yield from takewhile(lambda record: _second(record) == _second(last), records)


def _second(record: RunRecord) -> int:
    return newest_first(record.run_id)[0]


def list_ids(session: Session, wanted: Wanted) -> Iterator[str]:
    """The ids of this user's runs, newest first. What the index does not know is read on the way.

    StoreError: a run cannot be read.
    """
    if wanted.needs_records:
        _index_if_worthwhile(session, None)
    asked = _asked(session, wanted, None)
    found = session.store.through_history(
        None,
        session.cache,
        lambda history: (history.beside, history.created(history.indexed(None, asked))),
    )
    known = (sorted(order_of(*each) for each in indexed) for _, indexed in found)
    beside = sorted((run_id for ids, _ in found for run_id in ids), key=newest_first)
    records = _there(session, (run_id for run_id in beside if wanted.fits_id(run_id)))
    fitting = (each for each in records if is_wanted(session, each, wanted, asked.archived))
    return (run_id for _, _, run_id in merge(*known, _ordered(fitting)))


def _there(session: Session, ids: Iterable[str]) -> Iterator[RunRecord]:
    for run_id in ids:
        try:
            yield session.store.read(run_id)
        except StoreError as error:
            if not _is_gone(session, run_id, None, error):
                raise


def _is_gone(session: Session, run_id: str, user: str | None, error: StoreError) -> bool:
    """Whether a run that cannot be read was deleted since it was listed."""
    if not isinstance(error.__cause__, FileNotFoundError):
        return False
    try:
        return not session.store.has(run_id, user or session.store.user)
    except StoreError:
        return False  # others may keep theirs to themselves


def _ordered(records: Iterable[RunRecord]) -> Iterator[tuple[int, float, str]]:
    """The places of records in the order of listings, which come in that of their seconds."""
    for _, tied in groupby(records, key=_second):
        yield from sorted(order_of(record.run_id, record.created) for record in tied)


def is_wanted(
    session: Session,
    record: RunRecord,
    wanted: Wanted,
    archived: Mapping[str, float] = MappingProxyType({}),
) -> bool:
    """Whether a run is wanted. The scheduler is asked last, and only for a status.

    archived: by experiment, until when its runs are.
    """
    return wanted.fits(record, archived) and (
        wanted.status is None or session.refreshed([record])[0].state is wanted.status
    )


def _asked(session: Session, wanted: Wanted, user: str | None, order: Order | None = None) -> Asked:
    from hpcrun.store.history import Asked

    archived = {} if wanted.view == "All" else archived_experiments(session.store, user)
    return Asked(wanted, order, archived)


def _known(history: History, limit: int | None, asked: Asked) -> tuple[list[str], list[Row]]:
    """The ids of runs that may be on the page and have to be read, and the index's rows for it."""
    known = history.indexed(limit, asked)
    beside = [run_id for run_id in history.beside if asked.wanted.fits_id(run_id)]
    if asked.order is None and known and len(known) == limit:
        last, _ = newest_first(known[-1][0])
        beside = [run_id for run_id in beside if newest_first(run_id)[0] <= last]
    return beside, history.rows(known)


def _readable(
    session: Session, ids: Iterable[str], user: str | None, tell: Callable[[StoreError], None]
) -> Iterator[RunRecord]:
    unread = 0
    for run_id in ids:
        try:
            yield session.store.read(run_id, user)
        except StoreError as error:
            if _is_gone(session, run_id, user, error):
                continue
            tell(error)
            unread += 1
            if unread == MANY_UNREAD and user not in (None, session.user):
                tell(StoreError(f"{unread} runs of {user} cannot be read; no more are tried"))
                return


def _rows(
    session: Session,
    records: Sequence[RunRecord],
    numbers: bool,
    tell: Callable[[StoreError], None],
) -> Iterator[Row]:
    """The runs that the index does not know. numbers: with what their metrics came to."""
    for record in records:
        metrics: Mapping[str, Numbers] = {}
        if numbers:
            paths = session.store.paths(record.run_id, record.user)
            try:
                metrics = session.store.stored(paths).numbers()
            except StoreError as error:
                tell(error)
        yield Row(record, -1, metrics)


def _sort_key(row: Row, order: Order) -> tuple[bool, object]:
    key, sign = order.key, -1 if order.descending else 1
    if key.name in WORDS and not key.of:
        text = sort_text(row.record, key.name)
        return not text, [sign * ord(letter) for letter in text] + [sign * -1]
    value = sort_value(row, key)
    return math.isnan(value), sign * value if not math.isnan(value) else 0.0


def _index_if_worthwhile(session: Session, user: str | None) -> None:
    """Makes an index where otherwise many sealed files would be opened, one by one."""
    if any(session.store.through_history(user, session.cache, lambda h: h.wants_index)):
        with contextlib.suppress(StoreError):  # then the files are opened, one by one
            index(session, user)


def index(session: Session, user: str | None = None, anew: bool = False) -> int:
    """Makes a new generation of a user's index; gives how many runs it knows.

    Of another user's runs it is kept in this user's cache. anew: from the sealed files alone.
    """
    return sum(index_room(session, room, anew) for room in session.store.rooms(user))


def index_room(session: Session, room: UserPaths, anew: bool = False) -> int:
    """Makes a new generation of the index of one room; gives how many runs it knows."""
    from hpcrun.store.history import make_index

    def read(run_id: str, number: int) -> Row | None:
        try:
            return session.store.row(run_id, room.user, number)
        except StoreError:
            return None  # who lists it is told

    if room.user != session.user:
        return make_index(room, read, time.time(), session.cache, anew)
    if not Path(room.root).is_dir():
        return 0
    with kept_to(room.root):
        return make_index(room, read, time.time(), None, anew)
