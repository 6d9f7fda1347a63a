"""Sealing what has ended: which runs may be, which are due, and who does it.

A run may be sealed when it has ended, its job cannot be requeued, and nobody writes any more. Its
owner's next command seals what is due, in the background; `hpcrun store seal` does it at once.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hpcrun.errors import HpcrunError, StoreError
from hpcrun.layout import INTERACTIVE, LOCAL
from hpcrun.ports import JobId
from hpcrun.progress import counted
from hpcrun.record import RunRecord
from hpcrun.rights import kept_to
from hpcrun.store.removal import bytes_of_record
from hpcrun.workflow.cut import array_of
from hpcrun.workflow.due import DUE
from hpcrun.workflow.inventory import READ
from hpcrun.workflow.listing import index
from hpcrun.workflow.session import Session

KEPT = 7 * 86400.0
"""Seconds for which journals are kept beside the sealed file."""

LARGEST = 256 << 20
"""Bytes of a record that are sealed at most: sealing holds it in memory, several times over."""

LOW = 19
"""How nice the process in the background is: files are read for their digests."""


class Sealing(NamedTuple):
    """What became of a run: its sealed file, or why there is none."""

    run_id: str
    path: Path | None
    reason: str = ""


def seal_run(session: Session, record: RunRecord, read: float) -> Path:
    """Seals a run. ForeignRun; StoreError where it may not be yet, or cannot be written.

    read: a Unix time after the record was read; what the scheduler said before is not enough.
    """
    session.store.expect_own(record.run_id, record.user)
    reason = obstacle(session, record, read)
    if reason:
        hint = "seal it when nothing more can happen to it"
        raise StoreError(f"run {record.run_id} cannot be sealed: {reason}", hint)
    paths = session.store.paths(record.run_id)
    size = bytes_of_record(paths)
    if size > LARGEST:
        message = f"its record has {size} bytes; {LARGEST} are sealed at most"
        hint = "its journals stay, and every command reads them"
        raise StoreError(f"run {record.run_id} cannot be sealed: {message}", hint)
    from hpcrun.store.sealing import seal
    from hpcrun.workflow.clean import clean
    from hpcrun.workflow.files import take_inventory

    def is_over() -> bool:
        """Whether nobody has submitted it again since, or a run above it."""
        now = session.store.read(record.run_id)
        same = now.has_ended and now.attempt.attempt == record.attempt.attempt
        return same and not _reader(session, now)

    with contextlib.suppress(HpcrunError, OSError, RecursionError):  # they can be taken later, too
        take_inventory(session.store, record, READ)
    with kept_to(paths.owner.root):
        path = seal(session.store.stored(paths), is_over)
    if record.target != INTERACTIVE:  # nothing was laid there
        with contextlib.suppress(HpcrunError):  # what the snapshot holds as well stays
            clean(session, record)
    return path


def obstacle(session: Session, record: RunRecord, read: float) -> str:
    """Why a run of this user's may not be sealed; empty if it may."""
    if not record.has_ended:
        return f"it is {record.state}"
    return _reader(session, record) or _writer(session, record, read)


def _reader(session: Session, record: RunRecord) -> str:
    """Which run goes on above a child: in a job, journals are all that can be read."""
    while record.parent is not None:
        try:
            record = session.store.read(record.parent)
        except StoreError:
            break  # it was deleted, and a run below it has ended
        if not record.has_ended:
            return f"run {record.run_id} above it is {record.state}"
    return ""


def _writer(session: Session, record: RunRecord, read: float) -> str:
    """Who may still write to the record."""
    if record.imported is not None:
        return ""
    if record.target == INTERACTIVE:
        nodes = ", ".join(record.attempt.undrained)
        if nodes:
            return f"records may wait on {nodes}: hpcrun collect {record.run_id}"
        # Its end may come before its beginning: another process tells it.
        is_told = record.attempt.started is not None or _ended_long_ago(record)
        return "" if is_told else "its first records have not come yet"
    try:
        jobs = session.jobs(record.target, not_older_than=max(0.0, time.time() - read))
        held = {*jobs, *map(array_of, jobs)}
        told = [job for a in record.attempts if a.job_id for job in a.job_id.split(",")]
        known = [job for job in told if job in held]
        if known:
            return f"its job {known[0]} may be requeued while the scheduler remembers it"
        if record.attempt.undrained and record.target == LOCAL and record.job_id:
            session.scheduler(record.target).lives(JobId(record.job_id))
    except HpcrunError as error:
        return f"whether its job is gone is not known: {error.message}"
    return ""


def seal_all(session: Session, due_only: bool = False) -> Iterator[Sealing]:
    """Seals this user's runs that have ended, and removes journals that were sealed days ago.

    due_only: leave out what has only just ended, and where records may wait on nodes' disks.
    """
    from hpcrun.store.sealing import remove_journals, remove_leftovers, retired_runs

    ended = []
    for run_id in session.store.active_ids():
        try:
            record = session.record(run_id)
            if record.has_ended and (not due_only or _is_due(record)):
                ended.append(record)
        except HpcrunError as error:
            yield Sealing(run_id, None, error.message)
    read = time.time()
    with counted("sealing", len(ended), "runs") as tell:
        for record in ended:
            try:
                yield Sealing(record.run_id, seal_run(session, record, read))
            except HpcrunError as error:
                yield Sealing(record.run_id, None, error.message)
            tell(1)
    for own in session.store.rooms():
        remove_leftovers(own, before=time.time() - KEPT)
        for run_id in retired_runs(Path(own.active)):
            try:
                with kept_to(own.root):
                    run = session.store.stored(own.run(run_id))
                    remove_journals(run, before=time.time() - KEPT)
            except HpcrunError as error:
                yield Sealing(run_id, None, error.message)
    if any(session.store.through_history(None, None, lambda history: history.wants_index)):
        index(session)


def _is_due(record: RunRecord) -> bool:
    waits = record.attempt.undrained or record.attempt.uncollected
    return not waits and _ended_long_ago(record)


def _ended_long_ago(record: RunRecord) -> bool:
    return abs(time.time() - (record.ended or record.created)) >= DUE
