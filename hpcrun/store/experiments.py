"""What is known of an experiment itself: its tags, and until when its runs are archived.

<workspace>/users/<user>/experiments/<name>/<writer>.jsonl
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hpcrun.faults import told
from hpcrun.fold import fold_tags, last_word
from hpcrun.layout import Attempt, JournalKind, RunPaths, UserPaths
from hpcrun.record import RunRecord
from hpcrun.store.files import FileStore
from hpcrun.store.plain import folders_in
from hpcrun.store.stored import facts_in
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
    paths = _paths(store, name, user or store.user)
    facts, _ = facts_in(Path(paths.record), JournalKind.FACTS)
    told_last = last_word(facts, "archived")
    until = told_last.data.get("until") if told_last is not None else None
    return ExperimentRecord(name, fold_tags({}, facts), until)


def archived_experiments(store: FileStore, user: str | None = None) -> Mapping[str, float]:
    """By name, until when the runs of a user's archived experiments are hidden."""
    own = UserPaths.of(str(store.workspace), user or store.user)
    if not is_theirs(Path(own.root)):
        return {}
    with told(f"read {own.experiments}"):
        names = folders_in(own.experiments)
    records = [read_experiment(store, name, user) for name in names]
    return {record.name: record.archived for record in records if record.archived is not None}


def tell_experiment(store: FileStore, name: str, kind: str, data: Mapping[str, Any]) -> None:
    """Writes a fact of an experiment of this user's."""
    paths = _paths(store, name, store.user)
    store.prepare()
    with told(f"write the record of experiment {name}"):
        Path(paths.record).mkdir(parents=True, exist_ok=True)
    store.append(paths, Attempt(1), kind, data)


def forget_experiment(store: FileStore, name: str) -> None:
    """Removes what was said of an experiment."""
    folder = Path(_paths(store, name, store.user).record)
    with told(f"remove the record of experiment {name}"):
        if folder.is_dir():
            shutil.rmtree(folder)


def _paths(store: FileStore, name: str, user: str) -> RunPaths:
    folder = f"{UserPaths.of(str(store.workspace), user).experiments}/{name}"
    return RunPaths(folder, folder)
