"""What every run of a workspace has: its name, its record, and a way to add facts to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hpcrun.arguments import checked, is_path
from hpcrun.errors import ConfigError, Problem, RunNotFound
from hpcrun.forms import is_run_id
from hpcrun.layout import RunPaths
from hpcrun.metrics import RankFacts
from hpcrun.metrics import Run as LoggingRun
from hpcrun.metrics.recording import texts_of
from hpcrun.record import RunRecord
from hpcrun.store.wanted import type_of

if TYPE_CHECKING:
    from hpcrun.api.experiment import Experiment


@checked
class KnownRun(LoggingRun):
    """One run of a workspace, as its record knows it."""

    def __init__(self, experiment: Experiment, run_id: str, user: str | None = None) -> None:
        if not is_run_id(run_id) or not is_path(user or "x") or "/" in (user or ""):
            raise RunNotFound(f"there is no run {run_id!r}", "hpcrun list shows all")
        self._experiment = experiment
        self._run_id = run_id
        self._session = experiment.workspace.session
        self._side = experiment.workspace.side
        self._user = user or self._session.user

    # -- identity -----------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """`<experiment>_<unix seconds>_<8 hex>`."""
        return self._run_id

    @property
    def experiment(self) -> Experiment:
        """The experiment it belongs to."""
        return self._experiment

    @property
    def experiment_name(self) -> str:
        """The name of its experiment."""
        return self._experiment.name

    @property
    def ranks(self) -> RankFacts:
        """0 of 1: what is logged here is logged from outside of the job."""
        return RankFacts()

    @property
    def rank(self) -> int:
        """0."""
        return 0

    @property
    def world_size(self) -> int:
        """1."""
        return 1

    @property
    def output_directory(self) -> str:
        """Its folder outputs/."""
        return self.paths.outputs

    @property
    def type(self) -> str:
        """azureml.scriptrun, Azure ML's word for what was submitted; or interactive."""
        return type_of(self.record())

    @property
    def paths(self) -> RunPaths:
        """Its folders: the record, and the files where the job runs; of a run on another machine
        those of its mirror here."""
        return self._session.store.paths(self._run_id, self._user)

    def record(self) -> RunRecord:
        """All that is known, without asking the scheduler."""
        return self._session.store.read(self._run_id, self._user)

    def get_status(self) -> str:
        """Its status, one of Azure ML's names. Asks the scheduler only when the agent is silent."""
        return str(self._refreshed().state)

    @property
    def status(self) -> str:
        """Its status, as get_status() gives it."""
        return self.get_status()

    def add_properties(self, properties: Mapping[str, Any]) -> None:
        """Adds properties. They are write-once: changing one raises ConfigError."""
        known, given = self.properties, texts_of(properties)
        changed = [name for name in given if known.get(name, given[name]) != given[name]]
        if changed:
            raise ConfigError(
                Problem(
                    f"the property {changed[0]!r} of run {self.id} is set already",
                    "properties are write-once; use a tag",
                )
            )
        self._append("properties", {"set": given})

    # -----------------------------------------------------------------------------------------

    def _read(self) -> RunRecord:
        return self.record()

    def _refreshed(self) -> RunRecord:
        return self._session.refreshed([self.record()])[0]

    def _files_folder(self) -> str:
        self._side.expect_near("uploading files")
        self._must_be_own()
        return self.paths.files

    def _may_replace(self, name: str, source: Any) -> bool:
        """Nothing: what is uploaded from outside of a job belongs to no attempt."""
        return False

    def _models_folder(self) -> str:
        self._side.expect_near("registering a model")
        return self.paths.owner.models

    def _append(self, kind: str, data: Mapping[str, Any]) -> None:
        """Writes a fact to the record, for this user's own runs."""
        self._side.note(self._user, self.id, kind, data)

    def _must_be_own(self) -> None:
        """ForeignRun; StoreError: it was deleted."""
        self._session.store.expect_own(self.id, self._user)
        self._session.store.request(self.paths)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(experiment={self.experiment.name!r}, id={self.id!r})"
