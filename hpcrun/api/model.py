"""Model: one version of a registered model."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcrun.arguments import checked
from hpcrun.errors import ConfigError, Problem, RunNotFound, StoreError
from hpcrun.faults import told
from hpcrun.forms import as_text
from hpcrun.metrics.models import CONTENT, DELETED, NAME, RECORD, read, register, versions
from hpcrun.metrics.recording import texts_of
from hpcrun.record import RunFile
from hpcrun.store.policy import read_policy
from hpcrun.store.wanted import Names, has_names, names_of
from hpcrun.workflow.files import write_whole

if TYPE_CHECKING:
    from hpcrun.api.run import Run
    from hpcrun.api.workspace import Workspace


@checked
class Model:
    """One version of a model of this user's: a folder of files, and a record written once.

    name: the model; or id: `<name>:<version>`. version: default: the newest. StoreError: there is
    none. ConfigError: neither name nor id is given.
    """

    def __init__(
        self,
        workspace: Workspace,
        name: str | None = None,
        id: str | None = None,
        version: int | None = None,
    ) -> None:
        asked = id if id is not None else name
        if asked is None:
            raise ConfigError(Problem("Model() needs the name of a model, or an id"))
        given, colon, number = asked.partition(":")
        wanted = int(number) if number.isdecimal() else version
        is_name = NAME.match(given) and (not colon or number.isdecimal())
        places = {n: f for f in _folders(workspace) for n in versions(f, given)} if is_name else {}
        known = sorted(places)
        if not known or (wanted is not None and wanted not in known):
            told = asked if colon or wanted is None else f"{asked}:{as_text(wanted)}"
            some = ", ".join(str(each) for each in known[-5:])
            hint = f"it has the versions {some}" if known else "Model.list(workspace) gives all"
            raise StoreError(f"there is no model {told!r}", hint)
        self.workspace = workspace
        chosen = known[-1] if wanted is None else wanted
        self._record = read(places[chosen], given, chosen)

    @classmethod
    def list(
        cls,
        workspace: Workspace,
        name: str | None = None,
        tags: Names = None,
        latest: bool = False,
        run_id: str | None = None,
    ) -> Sequence[Model]:
        """This user's models, by name, the newest version first.

        name, tags, run_id: only those of a name, with tags, made by a run. latest: only the
        newest version of each.
        """
        folders, wanted = _folders(workspace), names_of(tags)
        there = [path for folder in folders if Path(folder).is_dir() for path in os.scandir(folder)]
        found: list[Model] = []
        for each in sorted({path.name for path in there if name in (None, path.name)}):
            numbers = sorted({n for f in folders for n in versions(f, each)}, reverse=True)
            found += islice(_there(workspace, each, numbers), 1 if latest else None)
        return [
            model
            for model in found
            if has_names(model.tags, wanted) and run_id in (None, model.run_id)
        ]

    @classmethod
    def register(
        cls,
        workspace: Workspace,
        model_path: str | Path,
        model_name: str,
        tags: Mapping[str, Any] | None = None,
        properties: Mapping[str, Any] | None = None,
        description: str = "",
        model_framework: str | None = None,
        model_framework_version: str | None = None,
    ) -> Model:
        """Copies a local file or folder as the next version of a model. ValueError, StoreError."""
        workspace.side.expect_near("registering a model")
        store = workspace.session.store
        room = store.prepare(read_policy(store.workspace).private)
        details = {
            "description": description,
            "tags": texts_of(tags or {}),
            "properties": texts_of(properties or {}),
            "framework": model_framework,
            "framework_version": model_framework_version,
        }
        record = register(room.models, model_name, str(model_path), details)
        return cls(workspace, record.name, version=record.version)

    @property
    def name(self) -> str:
        """Its name."""
        return self._record.name

    @property
    def version(self) -> int:
        """Its version, from 1."""
        return self._record.version

    @property
    def id(self) -> str:
        """`<name>:<version>`."""
        return self._record.id

    @property
    def path(self) -> Path:
        """The folder with its files."""
        return Path(self._record.path)

    @property
    def files(self) -> Sequence[RunFile]:
        """Its files: names below `path`, sizes in bytes, SHA-256."""
        return self._record.files

    @property
    def created_time(self) -> datetime:
        """When it was registered, in UTC."""
        return datetime.fromtimestamp(self._record.created, UTC)

    @property
    def description(self) -> str:
        """A text for people."""
        return self._record.description

    @property
    def tags(self) -> Mapping[str, str]:
        """Its tags, as they were given."""
        return self._record.tags

    @property
    def properties(self) -> Mapping[str, str]:
        """Its properties, as they were given."""
        return self._record.properties

    @property
    def model_framework(self) -> str | None:
        """The framework that was named."""
        return self._record.framework

    @property
    def model_framework_version(self) -> str | None:
        """The framework's version that was named."""
        return self._record.framework_version

    @property
    def run_id(self) -> str | None:
        """The id of the run that made it."""
        return self._record.run_id

    @property
    def run(self) -> Run | None:
        """The run that made it; None if none did, or it was deleted."""
        from hpcrun.api.run import Run

        try:
            own = f"{self.workspace.session.user}/{self.run_id}"
            return Run.get(self.workspace, own) if self.run_id else None
        except RunNotFound:
            return None

    def download(self, target_dir: str | Path = ".", exist_ok: bool = False) -> Path:
        """Copies its files into a folder; gives the path of its file or topmost folder there.

        exist_ok: replace files that are there; else StoreError.
        """
        target = Path(target_dir)
        there = [file.name for file in self.files if (target / file.name).exists()]
        if there and not exist_ok:
            raise StoreError(f"{target / there[0]} exists already", "exist_ok=True replaces it")
        with told(f"copy model {self.id} to {target}"):
            for file in self.files:
                (target / file.name).parent.mkdir(parents=True, exist_ok=True)
                write_whole(self.path / file.name, target / file.name)
        return target / self.files[0].name.split("/")[0] if self.files else target

    def delete(self) -> None:
        """Removes this version for good; its number is never given again."""
        folder = self.path.parent
        with told(f"delete model {self.id}"):
            aside = folder.with_name(f".{folder.name}{DELETED}")
            folder.rename(aside)
            shutil.rmtree(aside / CONTENT, ignore_errors=True)
            (aside / RECORD).unlink()

    def __repr__(self) -> str:
        return f"Model({self.id!r})"


def _there(workspace: Workspace, name: str, numbers: Sequence[int]) -> Iterator[Model]:
    """The versions of a model that nobody has deleted since they were listed."""
    for number in numbers:
        try:
            yield Model(workspace, name, version=number)
        except StoreError:
            if any(number in versions(folder, name) for folder in _folders(workspace)):
                raise


def _folders(workspace: Workspace) -> Sequence[str]:
    """Where this user's models lie: those of private runs, and the others."""
    workspace.side.expect_near("a registered model")
    return [room.models for room in reversed(workspace.session.store.rooms())]
