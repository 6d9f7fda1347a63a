"""The experiments of a user's runs, and whether they are archived."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from hpcrun.layout import experiment_of
from hpcrun.store import FileStore
from hpcrun.store.experiments import ExperimentRecord, read_experiment


def experiments(store: FileStore) -> Sequence[ExperimentRecord]:
    """The experiments of this user's runs, sorted by name; as `experiment`."""
    ids = store.run_ids()
    return [_known(store, name, ids) for name in sorted({experiment_of(run_id) for run_id in ids})]


def experiment(store: FileStore, name: str) -> ExperimentRecord:
    """An experiment of this user's runs; not archived if it has runs that are newer than that."""
    return _known(store, name, store.run_ids())


def _known(store: FileStore, name: str, run_ids: Sequence[str]) -> ExperimentRecord:
    record = read_experiment(store, name)
    until = record.archived
    if until is None:
        return record
    own = (run_id for run_id in run_ids if experiment_of(run_id) == name)
    # An id tells the second, the record the moment.
    late = takewhile(lambda run_id: _second(run_id) >= int(until), own)
    is_outdated = any(store.read(run_id).created > until for run_id in late)
    return record._replace(archived=None) if is_outdated else record


def _second(run_id: str) -> int:
    return int(run_id.rsplit("_", 2)[1])
