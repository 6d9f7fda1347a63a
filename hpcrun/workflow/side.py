"""What the Python API asks of a workspace besides reading its store: done here, or asked there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from hpcrun.config import RunConfiguration
from hpcrun.errors import RunNotFound, StoreError
from hpcrun.layout import INTERACTIVE, RunPaths, experiment_of
from hpcrun.reading import Read
from hpcrun.record import RunFile, RunRecord
from hpcrun.state import Cause
from hpcrun.store.experiments import ExperimentRecord, forget_experiment, tell_experiment
from hpcrun.store.wanted import Wanted
from hpcrun.workflow.cancel import cancel
from hpcrun.workflow.delete import Deletion, delete, plan_deletion
from hpcrun.workflow.elsewhere import elsewhere
from hpcrun.workflow.experiments import experiment, experiments
from hpcrun.workflow.files import each_there, fetch_file, files_of, files_on_disk, of_all
from hpcrun.workflow.interactive import end
from hpcrun.workflow.listing import list_ids
from hpcrun.workflow.mirrored import expect_here
from hpcrun.workflow.session import Session, open_session
from hpcrun.workflow.settings import named_workspace, open_assets

Told = TypeVar("Told")

Copy = tuple[str, Path]
"""The name of a run's file, and where its copy is to be."""


class Side(Protocol):
    """Where a workspace is, and what is done there. A run is named by (user, run id); where it is
    another machine's, an empty user is whoever logs in there.

    Everything raises as the commands do, TransportError besides where a connection is lost.
    """

    session: Session
    name: str
    """As the workspace is named."""

    def find(self, name: str) -> tuple[str, str]:
        """(user, run id) of the run that a name means. RunNotFound."""

    def runs(self, wanted: Wanted) -> Iterator[tuple[str, str]]:
        """This user's runs, newest first."""

    def experiments(self) -> Sequence[ExperimentRecord]:
        """The experiments of this user's runs, sorted by name."""

    def experiment(self, name: str) -> ExperimentRecord:
        """One of them; archived: None if it has newer runs."""

    def tell_experiment(self, name: str, kind: str, data: Mapping[str, Any]) -> None:
        """Writes a fact of an experiment."""

    def forget_experiment(self, name: str) -> None:
        """Removes what was said of an experiment without runs. StoreError, RunNotFound."""

    def now(self) -> float:
        """What time it is there, in seconds since 1970."""

    def submit(
        self, asked: Read[RunConfiguration], run_id: str | None, parent: str | None
    ) -> tuple[str, str]:
        """Submits a run. parent: the run whose child it becomes."""

    def note(self, user: str, run_id: str, kind: str, data: Mapping[str, Any]) -> None:
        """Writes a fact of a run. ForeignRun; StoreError: it was deleted."""

    def cancel(self, user: str, run_id: str) -> None:
        """Asks for a run's end."""

    def resubmit(self, user: str, run_id: str, resume_from: str | None) -> None:
        """Submits a run that has ended once more."""

    def end(self, user: str, run_id: str, cause: str, message: str) -> bool:
        """Ends a run if it is interactive and goes on; whether it is interactive."""

    def plan_deletion(self, user: str, run_id: str) -> Deletion:
        """What would be deleted with a run."""

    def delete(self, deletion: Deletion) -> None:
        """Deletes what was planned."""

    def files(self, record: RunRecord) -> Sequence[RunFile]:
        """A run's files, sorted by name."""

    def log_names(self, user: str, run_id: str) -> Sequence[str]:
        """The names of a run's logs, sorted."""

    def fetch(self, user: str, run_id: str, name: str, target: str | Path) -> Path:
        """Copies a file of a run to a place, or into a folder; gives the copy's path."""

    def fetch_all(self, user: str, run_id: str, copies: Sequence[Copy]) -> Sequence[Path]:
        """Copies files of a run; gives the copies' paths.

        Those that a run which goes on has removed meanwhile are left out. StoreError: some could
        not be read; all others have been copied.
        """

    def expect_live(self, record: RunRecord) -> None:
        """SchedulerError: nobody here knows how a run goes on."""

    def expect_near(self, what: str, hint: str = "") -> None:
        """ConfigError: the workspace is on another machine, and this is done there only."""

    def look(self, look: Callable[[], Told], sleep: Callable[[float], object]) -> Told:
        """What one look tells, however often the connection is lost meanwhile. sleep: a pause."""

    def close(self) -> None:
        """Ends the connection, if there is one; the next question makes another."""


def open_side(start: Path | None = None, given: str | None = None) -> Side:
    """The workspace that counts in a folder (default: the current one), here or on another machine.

    given: its name, which wins. ConfigError, SiteError.
    """
    named = named_workspace((start or Path.cwd()).absolute(), os.environ, given)
    assets = open_assets(start)
    place = elsewhere(named.text, assets) if ":" in named.text else None
    if place is None:
        return Near(open_session(start, given))
    from hpcrun.workflow.far import FarSession  # brings what mirrors
    from hpcrun.workflow.far_side import FarSide

    return FarSide(FarSession(place, assets))


class Near:
    """A workspace of this machine."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.name = str(session.workspace)
        self._store = session.store

    def find(self, name: str) -> tuple[str, str]:
        return self._store.find(name)

    def runs(self, wanted: Wanted) -> Iterator[tuple[str, str]]:
        return ((self.session.user, run_id) for run_id in list_ids(self.session, wanted))

    def experiments(self) -> Sequence[ExperimentRecord]:
        return experiments(self._store)

    def experiment(self, name: str) -> ExperimentRecord:
        return experiment(self._store, name)

    def tell_experiment(self, name: str, kind: str, data: Mapping[str, Any]) -> None:
        tell_experiment(self._store, name, kind, data)

    def forget_experiment(self, name: str) -> None:
        runs = [run_id for run_id in self._store.run_ids() if experiment_of(run_id) == name]
        if runs:
            hint = "delete them first: hpcrun delete"
            raise StoreError(f"experiment {name!r} has {len(runs)} runs", hint)
        if not forget_experiment(self._store, name):
            raise RunNotFound(f"there is no experiment {name!r}", "hpcrun list shows all")

    def submit(
        self, asked: Read[RunConfiguration], run_id: str | None, parent: str | None
    ) -> tuple[str, str]:
        record = self.session.submit(self.session.prepare(asked, run_id), parent)
        return record.user, record.run_id

    def note(self, user: str, run_id: str, kind: str, data: Mapping[str, Any]) -> None:
        paths = self._own(user, run_id)
        attempt = self._store.read(run_id).attempt.attempt
        self._store.append(paths, attempt, kind, data)

    def cancel(self, user: str, run_id: str) -> None:
        cancel(self.session, self._store.read(run_id, user))

    def resubmit(self, user: str, run_id: str, resume_from: str | None) -> None:
        self.session.resubmit(self._store.read(run_id, user), resume_from)

    def end(self, user: str, run_id: str, cause: str, message: str) -> bool:
        self._own(user, run_id)
        record = self.session.record(run_id, user)
        if record.target == INTERACTIVE and not record.state.is_end:
            end(record, self._store, Cause(cause), message)
        return record.target == INTERACTIVE

    def now(self) -> float:
        return time.time()

    def plan_deletion(self, user: str, run_id: str) -> Deletion:
        return plan_deletion(self.session, [self._store.read(run_id, user)])

    def delete(self, deletion: Deletion) -> None:
        delete(self.session, deletion)

    def files(self, record: RunRecord) -> Sequence[RunFile]:
        return files_of(self._store, record)

    def log_names(self, user: str, run_id: str) -> Sequence[str]:
        paths = self._store.paths(run_id, user)
        self._store.request(paths)  # tells whether it is there
        return [file.name for file in files_on_disk(paths) if is_log(file.name)]

    def fetch(self, user: str, run_id: str, name: str, target: str | Path) -> Path:
        return fetch_file(self._store, self._store.paths(run_id, user), name, target).path

    def fetch_all(self, user: str, run_id: str, copies: Sequence[Copy]) -> Sequence[Path]:
        paths = self._store.paths(run_id, user)

        def fetch(copy: Copy) -> Path:
            return fetch_file(self._store, paths, *copy).path

        def is_over() -> bool:
            return self._store.read(run_id, user).state.is_end

        got, failed = each_there(copies, fetch, is_over)
        if failed:
            raise of_all(failed, len(copies))
        return got

    def expect_live(self, record: RunRecord) -> None:
        expect_here(record, "wait")

    def expect_near(self, what: str, hint: str = "") -> None:
        pass

    def look(self, look: Callable[[], Told], sleep: Callable[[float], object]) -> Told:
        return look()

    def close(self) -> None:
        pass

    def _own(self, user: str, run_id: str) -> RunPaths:
        """The paths of a run of this user's own. ForeignRun; StoreError: it was deleted."""
        self._store.expect_own(run_id, user or self.session.user)
        paths = self._store.paths(run_id)
        self._store.request(paths)
        return paths


def is_log(name: str) -> bool:
    """Whether a file of a run is one of its logs."""
    return name.split("/")[0] in ("logs", "user_logs")
