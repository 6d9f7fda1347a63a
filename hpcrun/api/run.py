"""Run: what is known of one run, and what can be done with it."""

from __future__ import annotations

import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcrun.api.stream import stream
from hpcrun.errors import ConfigError, Problem, RunFailed, RunNotFound, WaitTimeout
from hpcrun.layout import RunPaths, UserPaths, experiment_of
from hpcrun.metrics import RankFacts, azure_shape, metrics_of
from hpcrun.metrics import Run as LoggingRun
from hpcrun.metrics.system import system_metrics
from hpcrun.record import RunRecord
from hpcrun.scheduler.reasons import reason_in_words
from hpcrun.snapshot import archive, read_manifest
from hpcrun.state import State
from hpcrun.workflow.cancel import cancel
from hpcrun.workflow.files import copy_file, files_of, find_file

if TYPE_CHECKING:
    from hpcrun.api.experiment import Experiment
    from hpcrun.api.workspace import Workspace

FIRST_LOOK, LAST_LOOK = 0.5, 15.0
"""Seconds between two looks at a run's record while waiting: they grow from one to the other."""


class Run(LoggingRun):
    """One run of a workspace. In a training script, `Run.get_context()` gives the script's own.

    experiment: the experiment it belongs to. run_id: its id.
    """

    def __init__(self, experiment: Experiment, run_id: str, user: str | None = None) -> None:
        self._experiment = experiment
        self._run_id = run_id
        self._session = experiment.workspace.session
        self._user = user or self._session.user

    # -- finding ------------------------------------------------------------------------------

    @classmethod
    def get(cls, workspace: Workspace, run_id: str) -> Run:
        """The run of that id, unique prefix of an id, or @last. RunNotFound."""
        from hpcrun.api.experiment import Experiment

        user, found = workspace.session.store.find(run_id)
        return cls(Experiment(workspace, experiment_of(found)), found, user)

    @classmethod
    def list(
        cls,
        experiment: Experiment,
        type: str | None = None,
        tags: str | Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        status: str | None = None,
        include_children: bool = False,
    ) -> Sequence[Run]:
        """This user's runs of an experiment, newest first; status keeps those of one status."""
        runs = experiment.get_runs(type, tags, properties, include_children)
        return [run for run in runs if status is None or run.get_status() == status]

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
        """Azure ML's word for a run made from a script or command."""
        return "azureml.scriptrun"

    @property
    def display_name(self) -> str:
        """A name for people; empty if none was given."""
        return self.record().display_name

    @display_name.setter
    def display_name(self, value: str) -> None:
        self._append("renamed", {"display_name": value})

    @property
    def description(self) -> str:
        """A text for people; empty if none was given."""
        return self.record().description

    @description.setter
    def description(self, value: str) -> None:
        self._append("renamed", {"description": value})

    @property
    def tags(self) -> Mapping[str, str]:
        """Its tags."""
        return self.record().tags

    @property
    def properties(self) -> Mapping[str, str]:
        """Its properties: git facts, the snapshot's digest, and what was added."""
        return self.record().properties

    @property
    def status(self) -> str:
        """Its status, as get_status() gives it."""
        return self.get_status()

    @property
    def paths(self) -> RunPaths:
        """Its folders: the record, and the files where the job runs."""
        return self._session.store.paths(self._run_id, self._user)

    # -- status -------------------------------------------------------------------------------

    def record(self) -> RunRecord:
        """All that is known, without asking the scheduler."""
        return self._session.store.read(self._run_id, self._user)

    def get_status(self) -> str:
        """Its status, one of Azure ML's names. Asks the scheduler only when the agent is silent."""
        return str(self._refreshed().state)

    def get_detailed_status(self) -> dict[str, Any]:
        """{status, details}: why it waits in words and when it may start, or the verdict.

        details holds reason, in_words, hint, estimated_start (UTC, ISO 8601) and verdict, as far
        as they are known.
        """
        record = self._refreshed()
        attempt = record.attempt
        details: dict[str, Any] = {}
        if attempt.reason:
            words = reason_in_words(attempt.reason)
            details |= {"reason": attempt.reason, "in_words": words.sentence, "hint": words.hint}
        if attempt.starts is not None:
            details["estimated_start"] = _iso(attempt.starts)
        if record.verdict is not None:
            details["verdict"] = record.verdict.sentence
        return {"status": str(record.state), "details": details}

    def get_details(self) -> dict[str, Any]:
        """Azure ML's keys, times in UTC as ISO 8601; logFiles maps names to paths."""
        record = self._refreshed()
        failed = record.state is State.FAILED and record.verdict is not None
        error = (
            {"error": {"code": str(record.verdict.cause), "message": record.verdict.sentence}}
            if failed and record.verdict is not None
            else None
        )
        return {
            "runId": record.run_id,
            "target": record.target,
            "status": str(record.state),
            "startTimeUtc": _iso(record.started),
            "endTimeUtc": _iso(record.ended),
            "error": error,
            "warnings": [{"message": text} for text in record.problems],
            "services": {},
            "properties": dict(record.properties),
            "inputDatasets": [],
            "outputDatasets": [],
            "runDefinition": dict(record.request),
            "logFiles": {
                file.name: str(Path(self.paths.files, file.name))
                for file in files_of(self.paths)
                if file.name.startswith("user_logs/")
            },
            "submittedBy": record.user,
        }

    def wait_for_completion(
        self,
        show_output: bool = False,
        wait_post_processing: bool = False,
        raise_on_error: bool = True,
        timeout_seconds: float | None = None,
    ) -> dict[str, Any]:
        """Waits until the run has ended; gives get_details().

        show_output: write rank 0's log to standard output meanwhile. wait_post_processing: also
        wait through Finalizing. raise_on_error: raise RunFailed if it ends as Failed; Canceled
        raises nothing. timeout_seconds: raise WaitTimeout after that; default: never. Ctrl-C
        raises KeyboardInterrupt, leaves the run alive, and says so on standard error.
        """
        until = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        try:
            if show_output:
                record = stream(self, sys.stdout, self._waits(until, True))
            else:
                record = deque(self._waits(until, wait_post_processing), maxlen=1).pop()
        except KeyboardInterrupt:
            words = f"run.cancel(), or hpcrun cancel {self.id}"
            sys.stderr.write(f"\nrun {self.id} goes on; cancel it with: {words}\n")
            raise
        if raise_on_error and record.state is State.FAILED:
            verdict = record.verdict
            raise RunFailed(
                f"run {self.id} failed: {verdict.sentence if verdict else 'unknown'}",
                f"hpcrun show {self.id}",
            )
        return self.get_details()

    def _waits(self, until: float | None, post_processing: bool) -> Iterator[RunRecord]:
        """Records, one after another, until the run has ended."""
        pause = FIRST_LOOK
        while True:
            record = self._refreshed()
            yield record
            if self._session.is_over(record):
                return
            finalizing = record.state is State.FINALIZING and not record.attempt.awaits_scheduler
            if finalizing and not post_processing:
                return
            if until is not None and time.monotonic() + pause > until:
                raise WaitTimeout(
                    f"run {self.id} is still {record.state}", "it goes on; wait again"
                )
            time.sleep(pause)
            pause = min(pause * 1.3, LAST_LOOK)

    def cancel(self) -> None:
        """Asks for its end. Returns at once; a run that has ended already is left as it is."""
        cancel(self._session, self.record())

    # -- metrics ------------------------------------------------------------------------------

    def flush(self, timeout_seconds: float = 300) -> None:
        """Returns at once: what is logged from outside of a job stands in the record already."""

    def get_metrics(
        self,
        name: str | None = None,
        recursive: bool = False,
        run_type: str | None = None,
        populate: bool = False,
    ) -> dict[str, Any]:
        """{name: value}, or {name: list} where there is more than one; tables as dict of lists.

        name: only that metric. recursive, run_type and populate are Azure ML's; a run has no
        children and no metrics behind artifacts yet.
        """
        facts, _ = self._session.store.facts(self.paths, metrics=True)
        metrics = metrics_of(facts)
        return {key: azure_shape(metric) for key, metric in metrics.items() if name in (None, key)}

    def get_system_metrics(self) -> dict[str, Any]:
        """What its nodes did: {`system/<host>/cpu_percent`: value or list}, sample by sample."""
        facts, _ = self._session.store.facts(self.paths, metrics=True)
        return {key: azure_shape(metric) for key, metric in system_metrics(facts).items()}

    # -- tags and properties ------------------------------------------------------------------

    def tag(self, key: str, value: str | None = None) -> None:
        """Sets one tag."""
        self.set_tags({key: "" if value is None else value})

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Sets tags; others stay."""
        self._append("tags", {"set": {str(k): str(v) for k, v in tags.items()}})

    def get_tags(self) -> Mapping[str, str]:
        """Its tags."""
        return self.tags

    def remove_tags(self, tags: str | Sequence[str]) -> None:
        """Removes tags; one that is not there is no error."""
        self._append("tags", {"removed": [tags] if isinstance(tags, str) else list(tags)})

    def add_properties(self, properties: Mapping[str, str]) -> None:
        """Adds properties. They are write-once: changing one raises ConfigError."""
        known = self.properties
        changed = [k for k, v in properties.items() if k in known and known[k] != str(v)]
        if changed:
            raise ConfigError(
                Problem(
                    f"the property {changed[0]!r} of run {self.id} is set already",
                    "properties are write-once; use a tag",
                )
            )
        self._append("properties", {"set": {str(k): str(v) for k, v in properties.items()}})

    def get_properties(self) -> Mapping[str, str]:
        """Its properties."""
        return self.properties

    # -- files --------------------------------------------------------------------------------

    def get_file_names(self) -> Sequence[str]:
        """The names of its files, such as outputs/model.pt, sorted."""
        return [file.name for file in files_of(self.paths)]

    def download_file(self, name: str, output_file_path: str | Path | None = None) -> Path:
        """Copies one file; default: its last name in the current folder. Gives the copy's path."""
        destination = Path(output_file_path) if output_file_path is not None else Path.cwd()
        return copy_file(find_file(self.paths, name), destination)

    def download_files(
        self,
        prefix: str | None = None,
        output_directory: str | Path | None = None,
        output_paths: Sequence[str | Path] | None = None,
        batch_size: int = 100,
        append_prefix: bool = True,
        timeout_seconds: int | None = None,
    ) -> Sequence[Path]:
        """Copies the files whose name begins with a prefix; gives the copies' paths.

        output_directory: default: the current folder. output_paths: one for each file, in the
        order of get_file_names(). append_prefix: keep the prefix in the copies' names.
        batch_size and timeout_seconds are Azure ML's and have no meaning here.
        """
        names = [name for name in self.get_file_names() if name.startswith(prefix or "")]
        if output_paths is not None and len(output_paths) != len(names):
            raise ConfigError(
                Problem(f"{len(output_paths)} output_paths given for {len(names)} files")
            )
        folder = Path(output_directory) if output_directory is not None else Path.cwd()
        targets = output_paths or [
            folder / (name if append_prefix else name.removeprefix(prefix or "").lstrip("/"))
            for name in names
        ]
        return [
            copy_file(find_file(self.paths, name), Path(target))
            for name, target in zip(names, targets, strict=True)
        ]

    # -- code ---------------------------------------------------------------------------------

    def get_snapshot_id(self) -> str:
        """The digest of its source, as it was submitted."""
        return str(self.record().request["snapshot"]["digest"])

    def restore_snapshot(
        self, snapshot_id: str | None = None, path: str | Path | None = None
    ) -> Path:
        """Writes its source as a zip file `<digest>.zip` into a folder; gives the file's path.

        snapshot_id: another snapshot of the same user. path: default: a new temporary folder.
        """
        digest = snapshot_id or self.get_snapshot_id()
        own = UserPaths.of(str(self._session.workspace), self._user)
        manifest = read_manifest(own, digest)
        folder = Path(path) if path is not None else Path(tempfile.mkdtemp(prefix="hpcrun-"))
        archive(manifest, Path(own.objects), folder / f"{digest}.zip")
        return folder / f"{digest}.zip"

    # -----------------------------------------------------------------------------------------

    def _refreshed(self) -> RunRecord:
        return self._session.refreshed([self.record()])[0]

    def _append(self, kind: str, data: Mapping[str, Any]) -> None:
        if self._user != self._session.user:
            raise RunNotFound(f"run {self.id} is {self._user}'s", "only they can change it")
        attempt = self.record().attempt.attempt
        self._session.store.append(self.paths, attempt, kind, data)

    def __repr__(self) -> str:
        return f"Run(experiment={self.experiment.name!r}, id={self.id!r})"


def _iso(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat()
