"""Experiment: a name that groups runs, and the door through which they are submitted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcrun.api.run import Run
from hpcrun.api.workspace import Workspace
from hpcrun.arguments import checked
from hpcrun.config import RunConfiguration, ScriptRunConfig
from hpcrun.config.runconfig import load_runconfig
from hpcrun.errors import ConfigError, Problem
from hpcrun.metrics.interactive import InteractiveRun as LiveRun
from hpcrun.metrics.recording import texts_of
from hpcrun.names import check_experiment
from hpcrun.reading import Read, read_value
from hpcrun.record import RunRecord
from hpcrun.store.experiments import ExperimentRecord
from hpcrun.store.wanted import (
    Names,
    Wanted,
    check_type,
    check_view,
    has_names,
    in_view,
    names_of,
    state_of,
)
from hpcrun.workflow.begin import begin

if TYPE_CHECKING:
    from hpcrun.api.interactive import InteractiveRun


@checked
class Experiment:
    """A name that groups runs. It exists as soon as a run has it.

    name: begins with a letter or digit; letters, digits, _ and - only; at most 200 (ConfigError).
    """

    def __init__(self, workspace: Workspace, name: str) -> None:
        check_experiment(name)
        self.workspace = workspace
        self.name = name

    @classmethod
    def list(
        cls,
        workspace: Workspace,
        experiment_name: str | None = None,
        view_type: str = "ActiveOnly",
        tags: Names = None,
    ) -> Sequence[Experiment]:
        """The experiments of this user's runs, sorted by name.

        experiment_name: only that one. view_type: ActiveOnly, ArchivedOnly or All. tags: a tag
        that an experiment must have, or tags with their values.
        """
        check_view(view_type)
        wanted = names_of(tags)
        return [
            cls(workspace, record.name)
            for record in workspace.side.experiments()
            if experiment_name in (None, record.name)
            and has_names(record.tags, wanted)
            and in_view(view_type, record.archived is not None)
        ]

    @classmethod
    def delete(cls, workspace: Workspace, experiment_id: str) -> None:
        """Removes an experiment without runs: its tags. StoreError: it has runs. RunNotFound: there
        is none."""
        check_experiment(experiment_id)
        workspace.side.forget_experiment(experiment_id)

    @property
    def id(self) -> str:
        """Its name."""
        return self.name

    @property
    def tags(self) -> Mapping[str, str]:
        """Its tags."""
        return self._record().tags

    def tag(self, key: str, value: object = None) -> None:
        """Sets one tag; without a value to the empty text."""
        self.set_tags({key: value})

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Sets tags; others stay. None is the empty text, all else its str()."""
        self._tell("tags", {"set": texts_of(tags)})

    def remove_tags(self, tags: str | Sequence[str]) -> None:
        """Removes tags; one that is not there is no error."""
        self._tell("tags", {"removed": [tags] if isinstance(tags, str) else [*tags]})

    def archive(self) -> None:
        """Hides the experiment and its runs so far from lists; nothing is deleted.

        Runs made later are shown, as are those of a new experiment of that name in Azure ML.
        """
        self._tell("archived", {"until": self.workspace.side.now()})

    def reactivate(self) -> None:
        """Shows the experiment and its runs again, except those archived by themselves."""
        self._tell("archived", {"until": None})

    @property
    def archived_time(self) -> datetime | None:
        """When it was archived, in UTC; None if it is not, or has newer runs."""
        until = self._record().archived
        return datetime.fromtimestamp(until, UTC) if until is not None else None

    def start_logging(
        self,
        outputs: str | Path | bool | None = None,
        snapshot_directory: str | Path | None = ".",
        display_name: str | None = None,
        private: bool | None = None,
    ) -> InteractiveRun:
        """Begins an interactive run: a run without a job, kept by this process.

        outputs: the folder whose files are copied into the run at its end; None or True:
        ./outputs; False: none. snapshot_directory: the source to keep with it; None: none.
        private: whether nobody else may see it; default: as the workspace says.
        Use it in a `with` statement, or end it with complete(), fail() or cancel().
        """
        from hpcrun.api.interactive import InteractiveRun

        self.workspace.side.expect_near("an interactive run")
        folder = "outputs" if outputs is None or outputs is True else outputs
        source = Path(snapshot_directory) if snapshot_directory is not None else None
        store = self.workspace.session.store
        context = begin(store, self.name, display_name, source, private)
        live = LiveRun(context, str(Path(folder).absolute()) if folder is not False else None)
        live.start()
        return InteractiveRun(self, live)

    def submit(
        self,
        config: ScriptRunConfig | RunConfiguration | str,
        tags: Mapping[str, Any] | None = None,
        *,
        run_id: str | None = None,
        source_directory: str | Path | None = None,
        parent: str | None = None,
    ) -> Run:
        """Submits a run and returns at once.

        config: what to run; a string names a .runconfig in `source_directory` (default: here).
        tags: added to those of the config. run_id: an id of one's own, in the usual form.
        parent: the id of the run whose child it becomes; `Run.submit_child` gives it.
        Raises ConfigError, PlanError, SnapshotError, SchedulerError, StoreError; then nothing
        was submitted, unless the error says that this is not known. To another machine also
        TransportError; once the submission itself is on its way that is a CutSubmission, which has
        the run's id: where the connection is lost, it is asked until it is known what became of it.
        """
        asked = self._asked(config, source_directory)
        own = asked.value.tags or {}
        asked.value.experiment = self.name
        asked.value.tags = {**own, **texts_of(tags or {})}
        if parent is not None:
            record = self.workspace.session.store.read(parent)
            asked.value.private = _as_private_as(record, asked.value.private)
        user, submitted = self.workspace.side.submit(asked, run_id, parent)
        return Run(self, submitted, user)

    def get_runs(
        self,
        type: str | None = None,
        tags: Names = None,
        properties: Names = None,
        include_children: bool = False,
        *,
        status: str | None = None,
        view_type: str = "ActiveOnly",
    ) -> Iterator[Run]:
        """This user's runs of the experiment, newest first.

        type: azureml.scriptrun (submitted) or interactive. tags, properties: a name that a run
        must have, or names with their values. include_children: child runs as well. status: only
        runs of it, in any case of letters. view_type: ActiveOnly, ArchivedOnly or All. ConfigError.
        """
        wanted = Wanted(
            experiment=self.name,
            status=state_of(status),
            type=check_type(type),
            tags=names_of(tags),
            properties=names_of(properties),
            children=include_children,
            view=check_view(view_type),
        )
        return (Run(self, run_id, user) for user, run_id in self.workspace.side.runs(wanted))

    def _record(self) -> ExperimentRecord:
        return self.workspace.side.experiment(self.name)

    def _tell(self, kind: str, data: Mapping[str, Any]) -> None:
        self.workspace.side.tell_experiment(self.name, kind, data)

    def _asked(
        self, config: ScriptRunConfig | RunConfiguration | str, source: str | Path | None
    ) -> Read[RunConfiguration]:
        """What is asked, as a copy: submitting changes nothing of the caller's."""
        if isinstance(config, str):
            return load_runconfig(config, Path(source or "."))
        if isinstance(config, RunConfiguration):
            config = ScriptRunConfig(source or config.source_directory, run_config=config)
        if isinstance(config, ScriptRunConfig):
            return read_value(RunConfiguration, config.asked())
        raise ConfigError(
            Problem(
                f"a {config.__class__.__name__} cannot be submitted",
                "a ScriptRunConfig, a RunConfiguration or the name of a .runconfig can",
            )
        )

    def __repr__(self) -> str:
        return f"Experiment({self.name!r})"


def _as_private_as(parent: RunRecord, asked: bool | None) -> bool:
    """Whether a child is private: the records of both name the other."""
    if asked not in (None, parent.is_private):
        word = "private" if parent.is_private else "not private"
        message = f"run {parent.run_id} is {word}, and its child would be otherwise"
        raise ConfigError(Problem(message, "leave `private` out"))
    return parent.is_private
