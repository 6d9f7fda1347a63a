"""The side of a workspace that is on another machine: its hpcrun is asked, over one connection."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from hpcrun.config import RunConfiguration
from hpcrun.config.checking import readable
from hpcrun.errors import ConfigError, Problem, TransportError
from hpcrun.faults import told
from hpcrun.names import experiment_name, new_run_id
from hpcrun.reading import Read, plain_of
from hpcrun.record import RunFile, RunRecord
from hpcrun.saying import say_on_stderr
from hpcrun.store.experiments import ExperimentRecord
from hpcrun.store.wanted import Wanted
from hpcrun.transport.wire import Lend, Request
from hpcrun.workflow.connection import Taken, ask, attempts, cache
from hpcrun.workflow.delete import Deletion, RunSize
from hpcrun.workflow.far import FarSession, name_of
from hpcrun.workflow.lent import take
from hpcrun.workflow.line import answered
from hpcrun.workflow.pending import Pending
from hpcrun.workflow.sending import (
    asked_after,
    bring,
    gather,
    package_files,
    project_files,
    text_of,
    unknown,
)
from hpcrun.workflow.session import Session
from hpcrun.workflow.settings import open_assets
from hpcrun.workflow.side import Copy, is_log
from hpcrun.workflow.surroundings import new_token

Told = TypeVar("Told")

FILE = "ScriptRunConfig"
"""The name there of the file that says what is asked."""


class FarSide:
    """What is asked of the hpcrun there; as `Side`."""

    def __init__(self, session: FarSession) -> None:
        self.session: Session = session
        self.name = session.place.named
        self._session = session
        self._place = session.place

    def find(self, name: str) -> tuple[str, str]:
        user, run_id = self._there("find", name)
        return user, run_id

    def runs(self, wanted: Wanted) -> Iterator[tuple[str, str]]:
        asked = wanted._replace(tags={**wanted.tags}, properties={**wanted.properties})
        found = [(user, run_id) for user, run_id in self._there("runs", asked._asdict())]
        self._session.list_together(found)
        return iter(found)

    def experiments(self) -> Sequence[ExperimentRecord]:
        return [ExperimentRecord(*each) for each in self._there("experiments")]

    def experiment(self, name: str) -> ExperimentRecord:
        return ExperimentRecord(*self._there("experiment", name))

    def tell_experiment(self, name: str, kind: str, data: Mapping[str, Any]) -> None:
        self._there("tell_experiment", name, kind, data)

    def forget_experiment(self, name: str) -> None:
        self._there("forget_experiment", name)

    def submit(
        self, asked: Read[RunConfiguration], run_id: str | None, parent: str | None
    ) -> tuple[str, str]:
        """As `Side.submit`, by the same steps as the command. CutSubmission: the connection was
        lost, and there is no run, or nobody can say."""
        config = readable(asked)
        texts = dict(beside(config))
        source = gather(asked, Path(), texts)
        name = experiment_name(config, source.told["folder"])
        given, run_id = run_id, ""
        pending = Pending(cache(), self._place.named)
        with contextlib.ExitStack() as noted:
            try:
                with self._session.line.held() as channel:
                    run_id = given or new_run_id(name, channel.time(), new_token())
                    words = ["--file", FILE, "--run-id", run_id, "--json"]
                    trial = ask(channel, self._place, ["render", *words], texts, source.told)
                    answered(*trial)  # all that can be refused is, before anything is brought
                    bring(source, channel, self._place)
                    noted.enter_context(pending.noted(run_id))
                    words += ["--parent", parent] if parent is not None else []
                    done = ask(channel, self._place, ["submit", *words], texts, source.told)
            except TransportError as error:
                if not pending.has(run_id):  # it had not got so far
                    raise
                say_on_stderr(f"{error.message}; it is asked what became of run {run_id}")
                run = asked_after(run_id, self._place, self._session.line.held)
                return run["user"], run_id
            except KeyboardInterrupt:
                if pending.has(run_id):
                    say_on_stderr(unknown(run_id, self._place))
                raise
            pending.remove(run_id)
        return json.loads(answered(*done))["user"], run_id

    def now(self) -> float:
        with self._session.line.held() as channel:
            return channel.time()

    def note(self, user: str, run_id: str, kind: str, data: Mapping[str, Any]) -> None:
        self._there("note", user, run_id, kind, data)
        self._session.forget(run_id)

    def cancel(self, user: str, run_id: str) -> None:
        self._there("cancel", user, run_id)
        self._session.forget(run_id)

    def resubmit(self, user: str, run_id: str, resume_from: str | None) -> None:
        self._there("resubmit", user, run_id, resume_from)
        self._session.forget(run_id)

    def end(self, user: str, run_id: str, cause: str, message: str) -> bool:
        is_interactive: bool = self._there("end", user, run_id, cause, message)
        self._session.forget(run_id)
        return is_interactive

    def plan_deletion(self, user: str, run_id: str) -> Deletion:
        plan = json.loads(self._ask("delete", "--json", name_of(user, run_id)))
        read = self._session.store.read
        sizes = [(read(run["run_id"], user), run["files"], run["bytes"]) for run in plan["runs"]]
        return Deletion(tuple(RunSize(*size) for size in sizes))

    def delete(self, deletion: Deletion) -> None:
        """Deletes what was planned, there and in the mirror."""
        top = deletion.runs[-1].record
        self._ask("delete", "--json", "--yes", name_of(top.user, top.run_id))
        for run in deletion.runs:
            self._session.drop(run.record.run_id)

    def files(self, record: RunRecord) -> Sequence[RunFile]:
        found = json.loads(self._ask("files", "--json", name_of(record.user, record.run_id)))
        return [RunFile(**file) for file in found]

    def log_names(self, user: str, run_id: str) -> Sequence[str]:
        found = json.loads(self._ask("files", "--json", name_of(user, run_id)))
        return [file["name"] for file in found if is_log(file["name"])]

    def fetch(self, user: str, run_id: str, name: str, target: str | Path) -> Path:
        """As `Side.fetch`; by rsync, over the same connection where that may be shared."""
        words = ["download", "--json", "--", name_of(user, run_id), name, os.fspath(target)]
        return Path(json.loads(self._take(words))["path"])

    def fetch_all(self, user: str, run_id: str, copies: Sequence[Copy]) -> Sequence[Path]:
        """As `Side.fetch_all`; all at once, and as `fetch`."""
        if not copies:
            return []
        run, targets = name_of(user, run_id), dict(copies)
        folder = _common(targets)
        if folder is not None:
            return [folder / name for name in self._lent(run, [*targets], folder)]
        first = copies[0][1].parent
        with told(f"write into {first}"):
            first.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".hpcrun-", dir=first) as aside:
                came = self._lent(run, [*targets], Path(aside))
                for name in came:
                    targets[name].parent.mkdir(parents=True, exist_ok=True)
                    Path(aside, name).replace(targets[name])
        return [targets[name] for name in came]

    def expect_live(self, record: RunRecord) -> None:
        pass

    def expect_near(self, what: str, hint: str = "") -> None:
        message = f"{what} is for the machine where the workspace {self.name} is"
        raise ConfigError(Problem(message, hint or f"log in to {self._place.login.name} for it"))

    def look(self, look: Callable[[], Told], sleep: Callable[[float], object]) -> Told:
        is_told = False
        for alone in attempts(self._place.login, sleep):
            try:
                if alone:
                    with self._session.line.held(alone):
                        pass
                return look()
            except TransportError as error:
                if not error.transient:
                    raise
                if not is_told:
                    say_on_stderr(f"{error.message}; it is tried again")
                is_told = True
        raise AssertionError

    def close(self) -> None:
        self._session.line.close()

    def _there(self, name: str, *arguments: object) -> Any:
        """What the side of the workspace there answers; see `cli.there`."""
        text = json.dumps([name, *arguments])
        return json.loads(self._session.line.ask(["there"], {"-": text}))

    def _ask(self, *words: str) -> bytes:
        return self._session.line.ask(words)

    def _lent(self, run: str, names: Sequence[str], folder: Path) -> Sequence[str]:
        """Brings files into a folder, under their names; gives the names of those that came."""
        words = ["lend", "--", run, str(folder)]
        found: list[str] = json.loads(self._take(words, {"-": json.dumps(names)}))
        return [name for name in found if os.path.lexists(folder / name)]

    def _take(self, words: Sequence[str], texts: Mapping[str, str] | None = None) -> bytes:
        """What a command prints that has files for this machine."""
        with self._session.line.held() as channel:

            def taken(lent: Lend, asked: Request) -> Taken:
                return take(lent, asked, channel, cache(), say_on_stderr)

            return answered(*ask(channel, self._place, words, texts, take=taken))


def beside(config: RunConfiguration) -> Iterator[tuple[str, str]]:
    """(name there, text) of what is asked, and of the files that go along with it.

    The files that tell packages get the names that they have there.
    """
    environment = config.environment
    listed, conda = package_files(environment, Path())
    for file in listed:
        assert not isinstance(environment, str)
        environment.requirements = listed[0].name
        yield file.relative_to(listed[0].parent).as_posix(), text_of(file)
    if conda is not None:
        assert not isinstance(environment, str)
        environment.python.conda_dependencies_file = conda.name
        yield conda.name, text_of(conda)
    for name, file in project_files(open_assets()):
        yield name, text_of(file)
    usual, asked = plain_of(RunConfiguration()), plain_of(config)
    given = {key: value for key, value in asked.items() if value != usual.get(key)}
    yield FILE, json.dumps(given)  # JSON is YAML


def _common(targets: Mapping[str, Path]) -> Path | None:
    """The folder below which all files are to have their own names, if it is so."""
    found = set()
    for name, target in targets.items():
        depth = len(Path(name).parts)
        if target.parts[-depth:] != Path(name).parts:
            return None
        found.add(Path(*target.parts[:-depth]))
    return found.pop() if len(found) == 1 else None
