"""What became of a submission that another machine lost sight of."""

from __future__ import annotations

from hpcrun.errors import RunNotFound, StoreError
from hpcrun.record import RunRecord
from hpcrun.store.deciding import WITHDRAWN, decide
from hpcrun.workflow.session import Session


def settle(session: Session, run_id: str) -> RunRecord | None:
    """What became of a submission that was cut: the run's record, or None: there is no run, and
    there will be none."""
    store = session.store
    store.prepare()
    decided = decide(store.own, run_id, WITHDRAWN)
    try:
        return session.record(run_id, not_older_than=0) if store.has(run_id, store.user) else None
    except (RunNotFound, StoreError):
        if decided != WITHDRAWN:
            raise
        return None  # who was submitting it has heard that, and is removing its record
