"""Run: what is known of one run, and what can be done with it."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcrun.api.datasets import datasets_of
from hpcrun.api.family import RunFamily
from hpcrun.api.files import RunFiles
from hpcrun.api.measures import RunMetrics
from hpcrun.api.stream import stream
from hpcrun.arguments import checked
from hpcrun.config import DockerSection, Environment
from hpcrun.config.environment import PythonSection
from hpcrun.errors import RunFailed, StoreError, WaitTimeout
from hpcrun.forms import as_text
from hpcrun.layout import experiment_of
from hpcrun.moments import iso
from hpcrun.record import RunRecord
from hpcrun.state import Cause, State
from hpcrun.store.plain import MOST_TEXT, read_plain
from hpcrun.store.wanted import Names
from hpcrun.workflow.delete import Deletion
from hpcrun.workflow.waiting import deadline

if TYPE_CHECKING:
    from hpcrun.api.experiment import Experiment
    from hpcrun.api.workspace import Workspace

FIRST_LOOK, LAST_LOOK = 0.5, 15.0
"""Seconds between two looks at a run's record while waiting: they grow from one to the other."""


@checked
class Run(RunFiles, RunFamily, RunMetrics):
    """One run of a workspace. In a training script, `Run.get_context()` gives the script's own.

    experiment: the experiment it belongs to. run_id: its id.
    """

    # -- finding ------------------------------------------------------------------------------

    @classmethod
    def get(cls, workspace: Workspace, run_id: str) -> Run:
        """The run of that id, unique prefix of an id, or @last: the newest that is no child.

        Your own comes first; `<user>/<run_id>` is that user's. RunNotFound: there is none, or
        several are meant.
        """
        from hpcrun.api.experiment import Experiment

        user, found = workspace.side.find(run_id)
        return cls(Experiment(workspace, experiment_of(found)), found, user)

    @classmethod
    def list(
        cls,
        experiment: Experiment,
        type: str | None = None,
        tags: Names = None,
        properties: Names = None,
        status: str | None = None,
        include_children: bool = False,
    ) -> Sequence[Run]:
        """This user's runs of an experiment, newest first; see `Experiment.get_runs`."""
        return [*experiment.get_runs(type, tags, properties, include_children, status=status)]

    # -- status -------------------------------------------------------------------------------

    def get_detailed_status(self) -> dict[str, Any]:
        """{status, details}: why it waits in words and when it may start, or the verdict.

        details holds reason, in_words, hint, estimated_start (UTC, ISO 8601), verdict and evidence,
        as far as they are known; hint says what to change.
        """
        record = self._refreshed()
        attempt = record.attempt
        details: dict[str, Any] = {}
        if attempt.reason:
            words = self._session.words_on(attempt.reason, record)
            details |= {"reason": attempt.reason, "in_words": words.sentence, "hint": words.hint}
        if attempt.starts is not None:
            details["estimated_start"] = iso(attempt.starts)
        if record.verdict is not None:
            verdict = record.verdict
            details |= {"verdict": verdict.sentence, "evidence": list(verdict.evidence)}
            details["hint"] = verdict.hint
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
            "startTimeUtc": iso(record.started),
            "endTimeUtc": iso(record.ended),
            "error": error,
            "warnings": [{"message": text} for text in record.problems],
            "services": {},
            "properties": dict(record.properties),
            "inputDatasets": datasets_of(record, output=False),
            "outputDatasets": datasets_of(record, output=True),
            "runDefinition": dict(record.request),
            "logFiles": {
                name: str(Path(self.paths.files, name))
                for name in self._log_names()
                if name.startswith("user_logs/")
            },
            "submittedBy": record.user,
        }

    def get_details_with_logs(self) -> dict[str, Any]:
        """get_details(), with the logs' contents in place of their paths."""
        details = self.get_details()
        texts = {
            name: read_plain(Path(path), MOST_TEXT).decode("utf-8", "replace")
            for name, path in details["logFiles"].items()
        }
        return {**details, "logFiles": texts}

    def get_environment(self) -> Environment:
        """What its command found, as it was resolved: interpreter, virtual environment, modules
        and variables, the site's among them. StoreError: an interactive run has none of its own.
        """
        request = self.record().request
        if "environment" not in request:
            raise StoreError(f"run {self.id} has no environment of its own", "no job ran it")
        told, choices = request["environment"], [choice[:2] for choice in request["choices"]]
        name, _, version = dict(choices)["environment"].partition(" (")[0].rpartition(":")
        if not name or not version.isdecimal():
            name, version = ":".join(filter(None, (name, version))), ""
        return Environment(
            name=name,
            version=version or None,
            python=PythonSection(told["python"]),
            virtual_environment=told["virtual_environment"],
            modules=list(told["modules"]),
            docker=DockerSection(told.get("image"), told.get("container_runtime")),
            environment_variables={
                name.removeprefix("variable "): value
                for name, value in choices
                if name.startswith("variable ")
            },
        )

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
        raises nothing. timeout_seconds: raise WaitTimeout after that; default: never. ConfigError:
        it is nan or negative. Ctrl-C raises KeyboardInterrupt, leaves the run alive, and says so
        on standard error. A connection to another machine that is lost is made again.
        """
        until = deadline(timeout_seconds)
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
                (verdict.hint if verdict else "") or f"hpcrun show {self.id}",
            )
        return self._side.look(self.get_details, time.sleep)

    def _waits(self, until: float | None, post_processing: bool) -> Iterator[RunRecord]:
        """Records, one after another, until the run has ended."""
        pause = FIRST_LOOK

        def sleep(seconds: float) -> None:
            if until is not None and time.monotonic() + seconds > until:
                raise WaitTimeout("the time to wait is over, and there is no connection")
            time.sleep(seconds)

        while True:
            record = self._side.look(self._refreshed, sleep)
            yield record
            if self._session.is_over(record):
                return
            self._side.expect_live(record)
            goes_on = record.attempt.awaits_scheduler or record.attempt.may_go_on
            finalizing = record.state is State.FINALIZING and not goes_on
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
        self._side.cancel(self._user, self.id)

    def resubmit(self, resume_from: str | Path | None = None) -> None:
        """Submits it once more, the same run: outputs and metrics go on. It must have ended.

        resume_from: the checkpoint to begin with; default: its newest complete one, if any.
        """
        checkpoint = None if resume_from is None else str(resume_from)
        self._side.resubmit(self._user, self.id, checkpoint)

    def should_stop(self, every: int = 1) -> bool:
        """False: only in the job is there something to stop."""
        return False

    def complete(self) -> None:
        """Ends an interactive run from outside of its process, as completed.

        Of a submitted run the exit code decides, and of an ended one its end stands: then nothing
        happens.
        """
        self._end(Cause.COMPLETED, f"{self._who} completed the run")

    def fail(self, error_details: object = None, error_code: object = None) -> None:
        """Ends an interactive run from outside of its process, as failed; see `complete`.

        To a submitted run a problem is added.
        """
        told = [as_text(part) for part in (error_code, error_details) if part is not None]
        message = ": ".join(told) or f"{self._who} called fail()"
        if not self._end(Cause.REPORTED, message):
            self._append("problem", {"message": message})

    @property
    def _who(self) -> str:
        """Who ends a run; on another machine it is known there who that is."""
        return self._session.user or self._user or "its user"

    def _end(self, cause: Cause, message: str) -> bool:
        """Ends the run if it is interactive and goes on; whether it is interactive."""
        return self._side.end(self._user, self.id, str(cause), message)

    def archive(self) -> None:
        """Hides it from lists; nothing is deleted, and it can be named as before."""
        self._append("archived", {"archived": True})

    def reactivate(self) -> None:
        """Shows it in lists again."""
        self._append("archived", {"archived": False})

    def plan_deletion(self) -> Deletion:
        """What delete() would remove: it and its descendants, their files and bytes."""
        return self._side.plan_deletion(self._user, self.id)

    def delete(self) -> Deletion:
        """Deletes it for good, with its descendants; gives what that was.

        Snapshots and models stay. StoreError: one has not ended. ForeignRun.
        """
        deletion = self.plan_deletion()
        self._side.delete(deletion)
        return deletion
