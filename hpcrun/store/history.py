"""All runs of a user, newest first: what the newest generation of the index knows, and the rest.

Only the rest is looked at one by one: what lies in active/, and what was sealed since then.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from hpcrun.errors import StoreError
from hpcrun.faults import told
from hpcrun.layout import RUN_ID, UserPaths, sealed_of
from hpcrun.store.hdf5 import Damaged, whole
from hpcrun.store.index import MONTH, Files, Generation, may_close, newest_generation
from hpcrun.store.plain import files_in, folders_in
from hpcrun.store.rows import Row, newest_first
from hpcrun.store.users import is_theirs
from hpcrun.store.wanted import EVERY, Order, Wanted

MANY = 100
"""Sealed runs that the index does not know, from which on a new generation is worth its price."""


class Asked(NamedTuple):
    """Which runs, and in which order; None: newest first. archived: by experiment, until when its
    runs are."""

    wanted: Wanted = EVERY
    order: Order | None = None
    archived: Mapping[str, float] = MappingProxyType({})


ALL = Asked()

_ATTEMPTS = 5


class History:
    """A user's runs as they lie there now: a context manager. StoreError.

    cache: where this reader keeps an index of its own, if the user's cannot be had. indexed: False
    where the index turned out Damaged: what it tells may not fit together.
    """

    def __init__(self, own: UserPaths, cache: Path | None = None, indexed: bool = True) -> None:
        self._own = own
        self._is_theirs = is_theirs(Path(own.root))
        with told(f"read {own.root}"):
            # In this order: see `index`.
            self.active = {name for name in self._folders(own.active) if RUN_ID.match(name)}
            self.files = Files.of(own.indexes)
            self.number, self._generation = self._newest(cache) if indexed else (0, None)
            try:
                with self._trusted():
                    self._look()
            except Damaged:
                self.close()
                self._generation = None
                self._look()

    def _folders(self, folder: str) -> list[str]:
        """Nothing of a folder that is somebody else's than its name says."""
        return folders_in(folder) if self._is_theirs else []

    def _trusted(self) -> AbstractContextManager[None]:
        return whole(self._generation.path) if self._generation is not None else nullcontext()

    def _newest(self, cache: Path | None) -> tuple[int, Generation | None]:
        """The user's newest generation and its number; this reader's own that was made after it."""
        if not self._is_theirs:
            return 0, None
        number, found = newest_generation(self._own.indexes, self.files) or (0, None)
        if cache is not None:
            kept = None
            with contextlib.suppress(OSError):  # a cache that cannot be had is none
                folder = cache_of(cache, self._own, number)
                kept = newest_generation(folder, Files.of(folder))
            if kept is not None:
                if found is not None:
                    found.close()
                found = kept[1]
        return number, found

    def _look(self) -> None:
        """Lists the months that are not closed."""
        self.fresh: dict[str, int] = {}
        gone: set[str] = set()
        # Who made a newer generation has removed the marks of what an older one does not know.
        all_read = self.number == max(self.files.generations, default=0)
        for month in {*self._listed_months(), *self._months()}:
            is_closed = self._months().get(month, (0, 0, False))[2]
            if is_closed and all_read and month not in self.files.reopened:
                continue
            sealed = _sealed_in(f"{self._own.runs}/{month}")
            known = self._generation.sealed_in(month) if self._generation else {}
            self.fresh.update({i: n for i, n in sealed.items() if known.get(i) != n})
            gone.update(known.keys() - sealed.keys())
        self._outdated = gone | self.fresh.keys()

    def _listed_months(self) -> list[str]:
        return [name for name in self._folders(self._own.runs) if MONTH.match(name)]

    def _months(self) -> dict[str, tuple[int, int, bool]]:
        return dict(self._generation.months) if self._generation else {}

    @cached_property
    def beside(self) -> list[str]:
        """The ids of the runs that have to be read one by one, newest first."""
        return sorted(self.active | self.fresh.keys(), key=newest_first)

    def indexed(self, limit: int | None, asked: Asked = ALL) -> list[tuple[str, int]]:
        """(run id, place in the index) of the first runs that the index knows well. Damaged."""
        if self._generation is None or not self._generation.count:
            return []
        elsewhere = self._outdated | self.active
        with self._trusted():
            enough = None if limit is None else limit + len(elsewhere)
            places = self._places(self._generation, asked, enough)
            ids = self._generation.ids_at(places)
            known = zip(ids, places, strict=True)
            page = list(islice((pair for pair in known if pair[0] not in elsewhere), limit))
            if not all(RUN_ID.match(run_id) and "/" not in run_id for run_id, _ in page):
                raise ValueError("it tells of what is no run")
            return page

    def _places(self, generation: Generation, asked: Asked, enough: int | None) -> list[int]:
        import numpy

        wanted = generation.wanted(asked.wanted, asked.archived)
        found = numpy.flatnonzero(wanted)
        if asked.order is not None:
            order = generation.sorted_by(asked.order)
            without = wanted.copy()
            without[order] = False
            found = numpy.concatenate((order[wanted[order]], numpy.flatnonzero(without)))
        places: list[int] = found[:enough].tolist()
        return places

    def rows(self, known: Sequence[tuple[str, int]]) -> list[Row]:
        """The rows of runs, as `indexed` gives them. Damaged: one tells of another run."""
        if self._generation is None:
            return []
        user = self._own.user
        with told(f"read {self._own.indexes}"), self._trusted():
            rows = self._generation.rows([place for _, place in known])
            for (run_id, _), row in zip(known, rows, strict=True):
                if (row.record.run_id, row.record.user) != (run_id, user):
                    raise ValueError(f"{run_id} is told to be {row.record.run_id}")
            return rows

    def created(self, known: Sequence[tuple[str, int]]) -> list[tuple[str, float]]:
        """(run id, when it was made) of runs, as `indexed` gives them. Damaged."""
        if self._generation is None:
            return []
        with self._trusted():
            times = self._generation.created_at([place for _, place in known])
            return [(run_id, time) for (run_id, _), time in zip(known, times, strict=True)]

    def run_ids(self) -> list[str]:
        """The ids of all runs, newest first."""
        ids = [run_id for run_id, _ in self.indexed(None)]
        return sorted([*ids, *self.beside], key=newest_first) if self.beside else ids

    @property
    def wants_index(self) -> bool:
        """Whether a new generation is worth making."""
        count = self._generation.count if self._generation else 0
        return len(self.fresh) >= max(MANY, count // 20)

    def texts(self) -> dict[str, bytes]:
        """run id → row, of the runs that the index knows well, or that are told of since."""
        with self._trusted():
            texts = self._generation.texts() if self._generation else {}
        return {run_id: text for run_id, text in texts.items() if run_id not in self._outdated}

    def sealed(self) -> dict[str, int]:
        """All sealed runs and the numbers of their files, from the folders of all months."""
        found: dict[str, int] = {}
        for month in self._listed_months():
            found |= _sealed_in(f"{self._own.runs}/{month}")
        return found

    def closable(self, now: float) -> set[str]:
        """The months in which nothing more can be sealed without a mark."""
        months = {*self._listed_months(), *self._months()}
        return {month for month in months if may_close(month, now)}

    def close(self) -> None:
        """Closes the index."""
        if self._generation is not None:
            self._generation.close()

    def __enter__(self) -> History:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def make_index(
    own: UserPaths,
    read: Callable[[str, int], Row | None],
    now: float,
    cache: Path | None = None,
    anew: bool = False,
) -> int:
    """Makes a new generation; gives how many runs it knows.

    read: the row of a run that the index does not know, None if it cannot be read. cache: where a
    reader keeps it who does not own the history. anew: from the sealed files alone. StoreError.
    """
    from hpcrun.store.indexing import tidy, write_generation

    with told(f"write the index of {own.root}"):
        for _ in range(_ATTEMPTS):
            with History(own, cache) as history:
                folder, seen = own.indexes, history.files
                if cache is not None:
                    folder = cache_of(cache, own, history.number)
                    seen = Files.of(folder)
                rows, fresh = _known(history, anew)
                if cache is not None:  # another wrote them
                    rows = {i: text for i, text in rows.items() if _is_of(text, i, own.user)}
                found = ((run_id, read(run_id, number)) for run_id, number in fresh.items())
                rows |= {run_id: row.encode() for run_id, row in found if row is not None}
                if not rows and not seen.generations:
                    return 0
                # The number that was free when this process looked: who took it may have seen less.
                number = max(seen.generations, default=0) + 1
                if not write_generation(folder, number, rows, history.closable(now)):
                    continue
                tidy(folder, seen)
                return len(rows)
    raise StoreError(f"others write the index of {own.root} all the time", transient=True)


def _known(history: History, anew: bool) -> tuple[dict[str, bytes], dict[str, int]]:
    """The rows that need not be read, and the runs whose rows do."""
    if not anew:
        with contextlib.suppress(Damaged):
            return history.texts(), history.fresh
    return {}, history.sealed()


def _is_of(text: bytes, run_id: str, user: str) -> bool:
    """Whether a row tells of this run."""
    try:
        record = Row.decode(text).record
    except (ValueError, TypeError, LookupError, RecursionError):
        return False
    return "/" not in run_id and (record.run_id, record.user) == (run_id, user)


def cache_of(cache: Path, own: UserPaths, number: int) -> str:
    """Where a reader keeps what was made after that generation of the user's own.

    The user removes marks only once the next one is there; then what was kept counts no more.
    """
    return str(cache / "index" / hashlib.sha256(own.root.encode()).hexdigest()[:16] / str(number))


def _sealed_in(folder: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for run_id, number in filter(None, map(sealed_of, files_in(folder))):
        found[run_id] = max(number, found.get(run_id, 0))
    return found
