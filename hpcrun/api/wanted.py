"""Which runs are meant: by type, tags, properties, status, and whether they are archived."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from hpcrun.errors import ConfigError, Problem
from hpcrun.layout import INTERACTIVE
from hpcrun.record import RunRecord
from hpcrun.state import State

if TYPE_CHECKING:
    from hpcrun.workflow.session import Session

Names = str | Mapping[str, str | None] | None
"""A name that must be there, or names with their values (None: any)."""

VIEWS = ("ActiveOnly", "ArchivedOnly", "All")
"""Azure ML's names for what a list shows."""

SCRIPT_RUN = "azureml.scriptrun"
"""Azure ML's type of a run that was submitted; the others' is `interactive`."""


class Wanted(NamedTuple):
    """A run is wanted if it fits all that is given."""

    type: str | None
    tags: Mapping[str, str | None]
    properties: Mapping[str, str | None]
    status: str | None

    @classmethod
    def of(
        cls, type: str | None, tags: Names, properties: Names, status: str | None = None
    ) -> Wanted:
        """ConfigError: there is no such status."""
        if status is not None and status not in list(State):
            hint = f"one of {', '.join(State)}"
            raise ConfigError(Problem(f"there is no status {status!r}", hint))
        return cls(type, _names(tags), _names(properties), status)

    def fits(self, record: RunRecord, session: Session) -> bool:
        """Whether a run is wanted. The scheduler is asked last, and only for a status."""
        return (
            self.type in (None, type_of(record))
            and self.has_tags(record.tags)
            and _has(record.properties, self.properties)
            and (self.status is None or session.refreshed([record])[0].state == self.status)
        )

    def has_tags(self, tags: Mapping[str, str]) -> bool:
        """Whether the tags wanted are among these."""
        return _has(tags, self.tags)


def type_of(record: RunRecord) -> str:
    """The type of a run."""
    return INTERACTIVE if record.target == INTERACTIVE else SCRIPT_RUN


def check_view(view_type: str) -> str:
    """One of `VIEWS`. ConfigError."""
    if view_type not in VIEWS:
        hint = f"one of {', '.join(VIEWS)}"
        raise ConfigError(Problem(f"there is no view_type {view_type!r}", hint))
    return view_type


def in_view(view_type: str, archived: bool) -> bool:
    """Whether a list shows what is, or is not, archived."""
    return view_type == "All" or archived == (view_type == "ArchivedOnly")


def _names(given: Names) -> Mapping[str, str | None]:
    return {given: None} if isinstance(given, str) else dict(given or {})


def _has(given: Mapping[str, str], wanted: Mapping[str, str | None]) -> bool:
    return all(
        name in given and (value is None or given[name] == value) for name, value in wanted.items()
    )
