"""Experiment: a name that groups runs, and the door through which they are submitted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hpcrun.api.run import Run
from hpcrun.api.workspace import Workspace
from hpcrun.config import RunConfiguration, ScriptRunConfig
from hpcrun.config.runconfig import load_runconfig
from hpcrun.errors import ConfigError, Problem
from hpcrun.layout import experiment_of
from hpcrun.plan import check_experiment
from hpcrun.reading import Read, read_value


class Experiment:
    """A name that groups runs. It exists as soon as a run has it.

    name: begins with a letter or digit; letters, digits, _ and - only; at most 200 (ConfigError).
    """

    def __init__(self, workspace: Workspace, name: str) -> None:
        check_experiment(name)
        self.workspace = workspace
        self.name = name

    @classmethod
    def list(cls, workspace: Workspace) -> Sequence[Experiment]:
        """The experiments of this user's runs, sorted by name."""
        names = {experiment_of(run_id) for run_id in workspace.session.store.run_ids()}
        return [cls(workspace, name) for name in sorted(names)]

    def submit(
        self,
        config: ScriptRunConfig | RunConfiguration | str,
        tags: Mapping[str, str] | None = None,
        *,
        run_id: str | None = None,
        source_directory: str | Path | None = None,
    ) -> Run:
        """Submits a run and returns at once.

        config: what to run; a string names a .runconfig in `source_directory` (default: here).
        tags: added to those of the config. run_id: an id of one's own, in the usual form.
        Raises ConfigError, PlanError, SnapshotError, SchedulerError, StoreError; then nothing
        was submitted, unless the error says that this is not known.
        """
        asked = self._asked(config, source_directory)
        own = asked.value.tags or {}
        asked.value.experiment = self.name
        asked.value.tags = {**own, **{str(k): str(v) for k, v in (tags or {}).items()}}
        session = self.workspace.session
        record = session.submit(session.prepare(asked, run_id))
        return Run(self, record.run_id)

    def get_runs(
        self,
        type: str | None = None,
        tags: str | Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        include_children: bool = False,
    ) -> Iterator[Run]:
        """This user's runs of the experiment, newest first.

        tags: a name that a run must have, or names with their values. properties: the same.
        type and include_children are Azure ML's; all runs are of one type without children.
        """
        wanted = {tags: None} if isinstance(tags, str) else dict(tags or {})
        store = self.workspace.session.store
        for run_id in store.run_ids():
            if experiment_of(run_id) != self.name:
                continue
            record = store.read(run_id)
            if _has(record.tags, wanted) and _has(record.properties, properties or {}):
                yield Run(self, run_id)

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


def _has(given: Mapping[str, str], wanted: Mapping[str, str | None]) -> bool:
    return all(
        name in given and (value is None or given[name] == value) for name, value in wanted.items()
    )
