"""What is known of an experiment itself: its tags, and until when its runs are archived.

<workspace>/users/<user>/experiments/<name>/<writer>.jsonl
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hpcrun.errors import StoreError
from hpcrun.faults import told
from hpcrun.fold import fold_tags, last_word
from hpcrun.layout import Attempt, JournalKind, RunPaths, UserPaths, experiment_of
from hpcrun.record import RunRecord
from hpcrun.rights import kept_to
from hpcrun.store.files import FileStore
from hpcrun.store.layers import facts_in
from hpcrun.store.plain import folders_in
from hpcrun.store.users import is_theirs


class ExperimentRecord(NamedTuple):
    """An experiment. archived: its runs made until then (Unix seconds) are hidden from lists."""

    name: str
    tags: Mapping[str, str]
    archived: float | None = None

    def hides(self, record: RunRecord) -> bool:
        """Whether a run is archived, by itself or with its experiment."""
        return record.archived or (self.archived is not None and record.created <= self.archived)


def read_experiment(store: FileStore, name: str, user: str | None = None) -> ExperimentRecord:
    """The record of an experiment; one of which nothing was said has an empty one."""
    folders = [Path(_paths(room, name).record) for room in store.rooms(user)]
    facts = [fact for folder in folders for fact in facts_in(folder, JournalKind.FACTS)[0]]
    told_last = last_word(facts, "archived")
    until = told_last.data.get("until") if told_last is not None else None
    return ExperimentRecord(name, fold_tags({}, facts), until)


def archived_experiments(store: FileStore, user: str | None = None) -> Mapping[str, float]:
    """By name, until when the runs of a user's archived experiments are hidden."""
    names: set[str] = set()
    for own in store.rooms(user):
        if is_theirs(Path(own.root)):
            with told(f"read {own.experiments}"):
                names.update(folders_in(own.experiments))
    found = {}
    for name in sorted(names):
        with contextlib.suppress(StoreError):  # what lies there in its place archives nothing
            found[name] = read_experiment(store, name, user).archived
    return {name: archived for name, archived in found.items() if archived is not None}


def tell_experiment(store: FileStore, name: str, kind: str, data: Mapping[str, Any]) -> None:
    """Writes a fact of an experiment of this user's."""
    store.prepare()
    paths = _paths(_room(store, name), name)
    with told(f"write the record of experiment {name}"), kept_to(paths.owner.root):
        Path(paths.record).mkdir(parents=True, exist_ok=True)
    store.append(paths, Attempt(1), kind, data)


def forget_experiment(store: FileStore, name: str) -> bool:
    """Removes what was said of an experiment; whether anything was."""
    folders = [Path(_paths(room, name).record) for room in store.rooms()]
    there = [folder for folder in folders if folder.is_dir()]
    with told(f"remove the record of experiment {name}"):
        for folder in there:
            shutil.rmtree(folder)
    return bool(there)


def _room(store: FileStore, name: str) -> UserPaths:
    """Where an experiment is told of: where others can see it only if they see a run of it."""
    own, *private = store.rooms()
    if not private or Path(_paths(own, name).record).is_dir():
        return own
    with store.history() as history:
        is_seen = any(experiment_of(run_id) == name for run_id in history.run_ids())
    return own if is_seen else private[0]


def _paths(room: UserPaths, name: str) -> RunPaths:
    folder = f"{room.experiments}/{name}"
    return RunPaths(folder, folder)
