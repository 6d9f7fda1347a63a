"""Workspace: the root of a run history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hpcrun.arguments import checked
from hpcrun.assets import Assets
from hpcrun.errors import ConfigError, Problem
from hpcrun.workflow.session import Session
from hpcrun.workflow.settings import find_config, is_elsewhere, named_folder
from hpcrun.workflow.side import Near, Side, open_side

if TYPE_CHECKING:
    from hpcrun.api.experiment import Experiment
    from hpcrun.api.run import Run
    from hpcrun.config import Environment
    from hpcrun.config.environment import EnvironmentBuild


@checked
class Workspace:
    """The root of a run history: a folder that all nodes see.

    path: the folder; it is made at the first submission. `SITE:` and `SITE:FOLDER` are on another
    machine, as the commands name them: that is asked over one connection, which is made when it is
    needed and ends with `close`, with a `with` statement, or with the program. For the workspace
    that the current project or user has configured, use `Workspace.from_config()`. ConfigError: it
    is no path.
    """

    def __init__(self, path: str | Path) -> None:
        if not str(path):
            raise ConfigError(Problem("a workspace is a folder, and '' names none"))
        if is_elsewhere(str(path)):
            self._open(open_side(given=str(path)))
            return
        root = named_folder(str(path), "Workspace()")
        config = find_config(Path.cwd())
        import os

        assets = Assets.of(config and config.parent.parent, os.environ)
        self._open(Near(Session(root, assets)))

    @classmethod
    def from_config(cls, path: str | Path | None = None) -> Workspace:
        """The workspace of the nearest .hpcrun/config.json, searched upward from a folder.

        path: where the search begins; default: the current folder. Without such a file:
        HPCRUN_WORKSPACE, the user's configuration, then ~/hpcrun.
        """
        workspace = cls.__new__(cls)
        workspace._open(open_side(Path(path) if path is not None else None))
        return workspace

    def _open(self, side: Side) -> None:
        self.side = side
        self.session = side.session

    def close(self) -> None:
        """Ends the connection to another machine, if there is one; what is asked next makes
        another."""
        self.side.close()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """The folder; of a workspace on another machine that of its mirror here, which holds what
        was read."""
        return self.session.workspace

    @property
    def name(self) -> str:
        """The folder's name; `SITE:` where another machine has one that is usual there."""
        return self.side.name.rpartition("/")[2] or self.side.name

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

        self._expect_near()
        return registered(self.session.store)

    def environment(
        self, name: str, version: str | int | None = None, label: str | None = None
    ) -> Environment:
        """A registered environment; see `Environment.get`. StoreError."""
        from hpcrun.workflow.registered import get

        self._expect_near()
        return get(self.session.store, name, None if version is None else str(version), label)

    def label_environment(self, name: str, version: str | int, labels: Iterable[str]) -> None:
        """Has labels stand for a version of an environment; see `Environment.label`."""
        from hpcrun.workflow.registered import label

        self._expect_near()
        label(self.session.store, name, str(version), labels)

    def register_environment(self, environment: Environment) -> Environment:
        """Keeps an environment under its name; see `Environment.register`."""
        from hpcrun.workflow.registered import register

        self._expect_near()
        return register(self.session.store, environment, Path.cwd())

    def build_environment(self, environment: Environment) -> EnvironmentBuild:
        """Builds an environment; see `Environment.build`."""
        from hpcrun.config.environment import EnvironmentBuild
        from hpcrun.workflow.environments import build_now

        self._expect_near()
        built = build_now(environment, self.session.store, Path.cwd())
        return EnvironmentBuild(built.folder, built.lock)

    def _expect_near(self) -> None:
        self.side.expect_near("an environment that is registered or built")

    def __repr__(self) -> str:
        return f"Workspace({self.side.name!r})"
