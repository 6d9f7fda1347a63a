"""Which runs are meant, and in which order: one value for commands, API and index. Pure.

`Wanted` holds what is asked; what is archived with its experiment is told beside it, by experiment
until when: `hpcrun.store.experiments`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from hpcrun.errors import ConfigError, Problem
from hpcrun.forms import as_text
from hpcrun.layout import INTERACTIVE, RUN_ID
from hpcrun.reading import nearest
from hpcrun.record import RunRecord
from hpcrun.state import State

Names = str | Mapping[str, Any] | None
"""A name that must be there, or names with their values (None: any), which count as texts."""

VIEWS = ("ActiveOnly", "ArchivedOnly", "All")
"""Azure ML's names for what a list shows."""

SCRIPT_RUN = "azureml.scriptrun"
"""Azure ML's type of a run that was submitted; the others' is `interactive`."""

TYPES = (SCRIPT_RUN, INTERACTIVE)

_NONE: Mapping[str, str | None] = MappingProxyType({})
_NEVER: Mapping[str, float] = MappingProxyType({})


class Wanted(NamedTuple):
    """A run is wanted if it fits all that is given; by default what a list shows.

    tags, properties: names that it must have, with their values (None: any). since, until: Unix
    seconds; made at or after, and before, by the second in its id. children: child runs as well.
    view: one of `VIEWS`.
    """

    experiment: str | None = None
    status: State | None = None
    type: str | None = None
    tags: Mapping[str, str | None] = _NONE
    properties: Mapping[str, str | None] = _NONE
    since: float = -math.inf
    until: float = math.inf
    children: bool = False
    view: str = "ActiveOnly"

    def fits_id(self, run_id: str) -> bool:
        """Whether a run may be wanted, by its id."""
        match = RUN_ID.match(run_id)
        return (
            match is not None
            and self.experiment in (None, match.group("experiment"))
            and self.since <= int(match.group("seconds")) < self.until
        )

    def fits(self, record: RunRecord, archived: Mapping[str, float] = _NEVER) -> bool:
        """Whether a run is wanted, but for its status, which the scheduler may know better.

        archived: by experiment, until when its runs are.
        """
        until = archived.get(record.experiment, -math.inf)
        return (
            self.fits_id(record.run_id)
            and (self.children or record.parent is None)
            and in_view(self.view, record.archived or record.created <= until)
            and self.type in (None, type_of(record))
            and has_names(record.tags, self.tags)
            and has_names(record.properties, self.properties)
        )

    @property
    def needs_records(self) -> bool:
        """Whether of each run more has to be known than what a list shows in any case."""
        return any((self.status, self.type, self.tags, self.properties))


EVERY = Wanted(children=True, view="All")
"""All runs."""


class Key(NamedTuple):
    """By what runs are sorted: a column of the index; or a metric, and which `of` its numbers."""

    name: str
    of: str = ""


class Order(NamedTuple):
    """Those without a value come last, in either direction."""

    key: Key
    descending: bool = False


def type_of(record: RunRecord) -> str:
    """The type of a run."""
    return INTERACTIVE if record.target == INTERACTIVE else SCRIPT_RUN


def state_of(named: str | None) -> State | None:
    """The state of that name, in any case of letters. ConfigError."""
    if named is None:
        return None
    for state in State:
        if str(state).lower() == named.lower():
            return state
    raise ConfigError(Problem(f"there is no status {named!r}", nearest(named, map(str, State))))


def check_view(view_type: str) -> str:
    """One of `VIEWS`. ConfigError."""
    if view_type not in VIEWS:
        hint = f"one of {', '.join(VIEWS)}"
        raise ConfigError(Problem(f"there is no view_type {view_type!r}", hint))
    return view_type


def check_type(kind: str | None) -> str | None:
    """One of `TYPES`, or None for all. ConfigError."""
    if kind is not None and kind not in TYPES:
        hint = f"one of {', '.join(TYPES)}"
        raise ConfigError(Problem(f"there is no type of runs {kind!r}", hint))
    return kind


def in_view(view: str, archived: bool) -> bool:
    """Whether a list shows what is, or is not, archived."""
    return view == "All" or archived == (view == "ArchivedOnly")


def names_of(given: Names) -> Mapping[str, str | None]:
    """Names with their values."""
    if isinstance(given, str):
        return {given: None}
    return {name: None if v is None else as_text(v) for name, v in (given or {}).items()}


def has_names(given: Mapping[str, str], wanted: Mapping[str, str | None]) -> bool:
    """Whether the names wanted are among those given, with their values."""
    return all(
        name in given and (value is None or given[name] == value) for name, value in wanted.items()
    )
