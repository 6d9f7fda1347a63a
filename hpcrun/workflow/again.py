"""Runs that have ended may be submitted again, while somebody else looks at them or clears away."""

from __future__ import annotations

from hpcrun.errors import StoreError
from hpcrun.record import RunRecord
from hpcrun.state import State
from hpcrun.store import FileStore


def expect_same(record: RunRecord, store: FileStore) -> None:
    """StoreError if a run of this user's goes on since its record was read: it has begun, or was
    submitted again. Caused by a FileNotFoundError if it is gone."""
    now = store.read(record.run_id)
    has_begun = record.state is State.NOT_STARTED and now.state is not State.NOT_STARTED
    if now.attempt.attempt != record.attempt.attempt or (has_begun and not now.has_ended):
        raise StoreError(f"run {record.run_id} goes on again", "try again when it has ended")
