"""Listing runs: rows of the index, and records of the runs that it does not know."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hpcrun.errors import StoreError
from hpcrun.layout import experiment_of
from hpcrun.record import RunRecord
from hpcrun.rights import kept_to
from hpcrun.state import State
from hpcrun.store.experiments import archived_experiments
from hpcrun.store.rows import Row, newest_first
from hpcrun.workflow.session import Session

if TYPE_CHECKING:
    from hpcrun.store.history import Asked, History

COLUMNS = ("created", "started", "ended", "took", "experiment", "target", "status", "verdict")
"""What runs can be sorted by, besides the last value of a metric."""


MANY_UNREAD = 100
"""Runs of another user that cannot be read, after which no more are tried."""


class Order(NamedTuple):
    """By what: a column, else a metric. Those without a value come last, in either direction."""

    column: str
    descending: bool

    @classmethod
    def parse(cls, text: str) -> Order:
        """From `loss` or `-accuracy`."""
        return cls(text.removeprefix("-"), text.startswith("-"))


class Wish(NamedTuple):
    """Which runs: of an experiment, of a status, child runs and archived ones as well."""

    experiment: str | None = None
    status: State | None = None
    children: bool = False
    archived: bool = False


PLAIN = Wish()
"""What a list shows that is asked for nothing."""


def list_rows(
    session: Session,
    limit: int | None,
    wish: Wish = PLAIN,
    user: str | None = None,
    order: Order | None = None,
    tell: Callable[[StoreError], None] = lambda error: None,
) -> list[Row]:
    """Runs of a user, newest first, or in that order.

    limit: how many; None for all. tell: hears of a run that cannot be read.
    """
    from hpcrun.store.history import Asked

    by_time = wish.status is None and order is None
    _index_if_worthwhile(session, user, needed=not by_time)
    asked = Asked(
        wish.experiment,
        str(wish.status) if wish.status else None,
        order.column if order else "",
        bool(order and order.descending),
        wish.children,
        wish.archived,
        {} if wish.archived else archived_experiments(session.store, user),
    )
    known = session.store.through_history(
        user, session.cache, lambda history: _known(history, limit, asked, by_time)
    )
    beside = sorted((run_id for ids, _ in known for run_id in ids), key=newest_first)
    rows = [row for _, found in known for row in found]
    records = (r for r in _readable(session, beside, user, tell) if not _is_hidden(r, asked))
    found = session.refreshed(islice(records, limit) if by_time else records)
    rows += _rows(session, found, order, tell)
    if wish.status is not None:
        rows = [row for row in rows if row.record.state is wish.status]
    rows.sort(key=lambda row: newest_first(row.record.run_id))
    if order is not None:
        rows.sort(key=lambda row: _sort_key(row, order))
    return rows[:limit]


def _known(
    history: History, limit: int | None, asked: Asked, by_time: bool
) -> tuple[list[str], list[Row]]:
    """The ids of runs that may be on the page and have to be read, and the index's rows for it."""
    known = history.indexed(limit, asked)
    beside = [i for i in history.beside if asked.experiment in (None, experiment_of(i))]
    if by_time and known and len(known) == limit:
        last = newest_first(known[-1][0])
        beside = [run_id for run_id in beside if newest_first(run_id) < last]
    return beside, history.rows(known)


def _is_hidden(record: RunRecord, asked: Asked) -> bool:
    if record.parent is not None and not asked.children:
        return True
    until = asked.until.get(record.experiment, -math.inf)
    return not asked.archived and (record.archived or record.created <= until)


def _readable(
    session: Session, ids: Iterable[str], user: str | None, tell: Callable[[StoreError], None]
) -> Iterator[RunRecord]:
    unread = 0
    for run_id in ids:
        try:
            yield session.store.read(run_id, user)
        except StoreError as error:
            tell(error)
            unread += 1
            if unread == MANY_UNREAD and user not in (None, session.user):
                tell(StoreError(f"{unread} runs of {user} cannot be read; no more are tried"))
                return


def _rows(
    session: Session,
    records: Sequence[RunRecord],
    order: Order | None,
    tell: Callable[[StoreError], None],
) -> Iterator[Row]:
    """The runs that the index does not know, with their metrics where they are sorted by one."""
    by_metric = order is not None and order.column not in COLUMNS
    for record in records:
        metrics: dict[str, float] = {}
        if by_metric:
            paths = session.store.paths(record.run_id, record.user)
            try:
                metrics = session.store.stored(paths).last_numbers()
            except StoreError as error:
                tell(error)
        yield Row(record, -1, metrics)


def _sort_key(row: Row, order: Order) -> tuple[bool, object]:
    from hpcrun.store.index import WORDS, sort_text, sort_value

    sign = -1 if order.descending else 1
    if order.column in WORDS:
        text = sort_text(row.record, order.column)
        return False, [sign * ord(letter) for letter in text] + [sign * -1]
    value = sort_value(row, order.column)
    return math.isnan(value), sign * value if not math.isnan(value) else 0.0


def _index_if_worthwhile(session: Session, user: str | None, needed: bool) -> None:
    """Makes an index where otherwise many sealed files would be opened, one by one."""
    if not needed:
        return
    if any(session.store.through_history(user, session.cache, lambda h: h.wants_index)):
        with contextlib.suppress(StoreError):  # then the files are opened, one by one
            index(session, user)


def index(session: Session, user: str | None = None, anew: bool = False) -> int:
    """Makes a new generation of a user's index; gives how many runs it knows.

    Of another user's runs it is kept in this user's cache. anew: from the sealed files alone.
    """
    from hpcrun.store.history import make_index

    def read(run_id: str, number: int) -> Row | None:
        try:
            return session.store.row(run_id, user, number)
        except StoreError:
            return None  # who lists it is told

    if user not in (None, session.user):
        (own,) = session.store.rooms(user)
        return make_index(own, read, time.time(), session.cache, anew)
    count = 0
    for own in session.store.rooms():
        if Path(own.root).is_dir():
            with kept_to(own.root):
                count += make_index(own, read, time.time(), None, anew)
    return count
