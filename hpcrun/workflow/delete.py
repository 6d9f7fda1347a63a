"""Deleting runs: first a value that says what and how much, then the deed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from hpcrun.errors import StoreError
from hpcrun.layout import INTERACTIVE
from hpcrun.record import RunRecord
from hpcrun.state import State
from hpcrun.store.removal import remove, taken_up
from hpcrun.workflow.again import expect_same
from hpcrun.workflow.session import Session


class RunSize(NamedTuple):
    """A run, and the files and bytes that its record and files take up."""

    record: RunRecord
    files: int
    bytes: int


class Deletion(NamedTuple):
    """What would be deleted: runs with all their descendants, children before their parents.

    Snapshots are not part of it: runs share them. Models are copies of their own, and stay.
    """

    runs: tuple[RunSize, ...]

    @property
    def files(self) -> int:
        """How many files."""
        return sum(run.files for run in self.runs)

    @property
    def bytes(self) -> int:
        """How many bytes."""
        return sum(run.bytes for run in self.runs)


def plan_deletion(session: Session, records: Iterable[RunRecord]) -> Deletion:
    """What deleting runs would remove. StoreError: one goes on, and not elsewhere. ForeignRun."""
    found: dict[str, RunRecord] = {}
    for record in records:
        session.store.expect_own(record.run_id, record.user)
        for each in with_descendants(session, record):
            found.setdefault(each.run_id, each)
    records = session.refreshed(found.values())
    for record in records:
        # A child that never began has no process that could begin it, but this one's.
        waits = record.target == INTERACTIVE and record.state is State.NOT_STARTED
        if record.imported is None and not session.is_over(record) and not waits:
            hint = f"hpcrun cancel {record.run_id}"
            raise StoreError(f"run {record.run_id} is {record.state}; it has not ended", hint)
    return Deletion(
        tuple(RunSize(record, *taken_up(session.store.paths(record.run_id))) for record in records)
    )


def delete(session: Session, deletion: Deletion) -> None:
    """Deletes what was planned. StoreError, also where a run goes on again; what is left then can
    be deleted again."""
    for run in deletion.runs:
        try:
            expect_same(run.record, session.store)
        except StoreError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
        remove(session.store.paths(run.record.run_id))


def with_descendants(session: Session, record: RunRecord) -> Iterator[RunRecord]:
    """A run and those below it that are still there, children before their parents; each once."""
    found, waiting, seen = [], [record], {record.run_id}
    while waiting:
        found.append(waiting.pop())
        for run_id in found[-1].children:
            if run_id in seen:
                continue  # a record may say that it is its own child
            seen.add(run_id)
            try:
                waiting.append(session.store.read(run_id, record.user))
            except StoreError as error:
                if not isinstance(error.__cause__, FileNotFoundError):
                    raise  # else it was deleted before
    yield from reversed(found)
