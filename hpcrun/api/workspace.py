"""Workspace: the root of a run history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hpcrun.arguments import checked
from hpcrun.assets import Assets
from hpcrun.errors import ConfigError, Problem
from hpcrun.workflow.session import (
    Session,
    find_config,
    is_elsewhere,
    named_folder,
    open_session,
)

if TYPE_CHECKING:
    from hpcrun.api.experiment import Experiment
    from hpcrun.api.run import Run
    from hpcrun.config import Environment
    from hpcrun.config.environment import EnvironmentBuild


@checked
class Workspace:
    """The root of a run history: a folder that all nodes see.

    path: the folder; it is made at the first submission. For the one that the current project or
    user has configured, use `Workspace.from_config()`. ConfigError: it is no path, or is on another
    machine.
    """

    def __init__(self, path: str | Path) -> None:
        if not str(path):
            raise ConfigError(Problem("a workspace is a folder, and '' names none"))
        if is_elsewhere(str(path)):
            message = f"the workspace {path} is on another machine"
            hint = f"`hpcrun sync {path}` mirrors its runs into one that is here"
            raise ConfigError(Problem(message, hint))
        root = named_folder(str(path), "Workspace()")
        config = find_config(Path.cwd())
        import os

        self.session = Session(root, Assets.of(config and config.parent.parent, os.environ))

    @classmethod
    def from_config(cls, path: str | Path | None = None) -> Workspace:
        """The workspace of the nearest .hpcrun/config.json, searched upward from a folder.

        path: where the search begins; default: the current folder. Without such a file:
        HPCRUN_WORKSPACE, the user's configuration, then ~/hpcrun.
        """
        workspace = cls.__new__(cls)
        workspace.session = open_session(Path(path) if path is not None else None)
        return workspace

    @property
    def path(self) -> Path:
        """The folder."""
        return self.session.workspace

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def experiments(self) -> Mapping[str, Experiment]:
        """The experiments of this user's runs, by name."""
        from hpcrun.api.experiment import Experiment

        return {experiment.name: experiment for experiment in Experiment.list(self)}

    def get_run(self, run_id: str) -> Run:
        """The run that a name means; see `Run.get`. RunNotFound."""
        from hpcrun.api.run import Run

        return Run.get(self, run_id)

    @property
    def environments(self) -> Mapping[str, Environment]:
        """The newest version of each environment that this user has registered, by name."""
        from hpcrun.workflow.registered import registered

        return registered(self.session.store)

    def environment(
        self, name: str, version: str | int | None = None, label: str | None = None
    ) -> Environment:
        """A registered environment; see `Environment.get`. StoreError."""
        from hpcrun.workflow.registered import get

        return get(self.session.store, name, None if version is None else str(version), label)

    def label_environment(self, name: str, version: str | int, labels: Iterable[str]) -> None:
        """Has labels stand for a version of an environment; see `Environment.label`."""
        from hpcrun.workflow.registered import label

        label(self.session.store, name, str(version), labels)

    def register_environment(self, environment: Environment) -> Environment:
        """Keeps an environment under its name; see `Environment.register`."""
        from hpcrun.workflow.registered import register

        return register(self.session.store, environment, Path.cwd())

    def build_environment(self, environment: Environment) -> EnvironmentBuild:
        """Builds an environment; see `Environment.build`."""
        from hpcrun.config.environment import EnvironmentBuild
        from hpcrun.workflow.environments import build_now

        built = build_now(environment, self.session.store, Path.cwd())
        return EnvironmentBuild(built.folder, built.lock)

    def __repr__(self) -> str:
        return f"Workspace({str(self.path)!r})"
