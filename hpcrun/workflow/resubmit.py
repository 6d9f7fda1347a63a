"""Submitting a run that has ended once more: the next submission of the same run.

The stored script is handed over as it is, with the submission's number as its first argument. As
at the first submission the intent is written before, and a client that fails is looked up after.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpcrun.agent.limits import taken
from hpcrun.agent.past import spent
from hpcrun.directives import options_of_submission
from hpcrun.environments.cache import MARKER, listed
from hpcrun.errors import ConfigError, PlanError, Problem, SchedulerError, SnapshotError, StoreError
from hpcrun.layout import INTERACTIVE, Attempt, JournalKind
from hpcrun.names import token_of
from hpcrun.ports import Scheduler
from hpcrun.record import RunRecord
from hpcrun.rights import kept_to
from hpcrun.store import FileStore
from hpcrun.store.sealing import unseal
from hpcrun.workflow.again import expect_same
from hpcrun.workflow.cut import expect_alone, known_jobs, this_client
from hpcrun.workflow.inventory import forget
from hpcrun.workflow.mirrored import expect_here
from hpcrun.workflow.prepare import refusal_of_checkpoint
from hpcrun.workflow.submit import hand_over, submission_of


def resubmit(
    record: RunRecord,
    store: FileStore,
    scheduler: Scheduler,
    comment: bool = False,
    resume_from: Path | None = None,
    options: Sequence[str] = (),
) -> RunRecord:
    """Submits a run that has ended once more, and gives its record.

    record: up to date, and one that can be (`check`). comment: whether the site leaves a job's
    comment to us. resume_from: the checkpoint to begin with; ConfigError if it is not there, or
    hidden where this run is not. SchedulerError: somebody else submits it again just now.
    options: the scheduler's own, for this submission alone.
    """
    if resume_from is not None:
        hint = "copy the checkpoint elsewhere"
        refused = refusal_of_checkpoint(resume_from, store, record.is_private, hint)
        if refused is not None:
            raise ConfigError(refused)
    scheduler.check()
    paths, before, attempt = store.paths(record.run_id), record.attempt.attempt, _next(record)
    expect_alone(paths.owner, record.run_id, attempt.submission)
    expect_same(record, store)
    with kept_to(paths.owner.root):
        unseal(store.stored(paths))
    store.make_folders(paths)
    token = token_of(record.run_id, attempt.submission)
    if record.request.get("task") and record.parent is not None:
        _reopen(record.parent, store)
    store.supersede(paths, before.submission)
    store.append(paths, attempt, "submitting", {"token": token, **this_client()})
    forget(paths)  # the next attempt writes others; who takes them now looks once more, behind it
    with kept_to(paths.owner.root):
        _unseal_family(store.read(record.run_id), store)
    submission = replace(
        submission_of(record.run_id, attempt, paths),
        arguments=(str(attempt.submission), *([str(resume_from)] if resume_from else [])),
        options=(
            *options_of_submission(
                paths.batch_log(attempt.submission), f"hpcrun:{token}" if comment else None
            ),
            *options,
        ),
    )
    known = known_jobs(store.read(record.run_id))
    hand_over(submission, attempt, paths, store, scheduler, known)
    return store.read(record.run_id)


def _reopen(run_id: str, store: FileStore) -> None:
    """The run whose task it is goes on as well, if it had ended; one that was deleted does not."""
    if not store.has(run_id, store.user):
        return
    paths, above = store.paths(run_id), store.read(run_id)
    if above.state.is_end:
        with kept_to(paths.owner.root):
            unseal(store.stored(paths))
        store.append(paths, _next(above), "submitting", this_client())


def _unseal_family(record: RunRecord, store: FileStore) -> None:
    """The job and its agent read journals only, those of its children too.

    Whoever seals looks once more whether they go on, when the journals are out of the way: from
    here on it will see that they do.
    """
    unseal(store.stored(store.paths(record.run_id)))
    for child in record.children:
        if store.has(child, store.user):  # else it was deleted
            _unseal_family(store.read(child), store)


def _next(record: RunRecord) -> Attempt:
    return Attempt(record.attempt.attempt.submission + 1)


def check(record: RunRecord, store: FileStore) -> None:
    """Raises what keeps a run from being submitted again.

    ForeignRun. SchedulerError: it goes on, or has no job. PlanError: it has taken its time.
    StoreError, SnapshotError: what it needs is gone.
    """
    run_id = record.run_id
    store.expect_own(run_id, record.user, "submit its source as a run of your own")
    expect_here(record, "resubmit")
    if record.imported is not None:
        message = f"run {run_id} was imported: its job was {record.imported.user}'s elsewhere"
        hint = f"`hpcrun snapshot {run_id} --restore FOLDER`, and submit that as a new run"
        raise SchedulerError(message, hint)
    if record.target == INTERACTIVE:
        raise SchedulerError(f"run {run_id} is interactive", "there is no job to submit again")
    if record.request.get("tasks"):
        message = f"run {run_id} is made of tasks, and has no job of its own"
        raise SchedulerError(message, "`hpcrun resubmit` each of them that should run again")
    if not record.has_ended:
        hint = f"wait for its end, or `hpcrun cancel {run_id}`"
        raise SchedulerError(f"run {run_id} is still {record.state}", hint)
    paths, request = store.paths(run_id), record.request
    limit = request["agent"].get("max_duration_seconds")
    facts, _ = store.facts(paths, JournalKind.FACTS)
    if limit is not None and spent(facts, _next(record)) >= limit:
        hint = "submit a new run, with resume_from its last checkpoint"
        raise PlanError(Problem(taken(limit), hint))
    has_script = store.stored(paths).text(Path(paths.script).name) is not None
    hpcrun, environment = request["agent"]["words"][-1], request.get("environment", {})
    built = environment["virtual_environment"] if "packages" in environment else None
    image = environment.get("image", "")
    for what, path, is_there in (
        ("script", paths.script, has_script),
        ("hpcrun", hpcrun, _is_wanted(hpcrun)),
        ("environment", built, built is None or _is_same(built, environment["packages"])),
        ("image", image, not image.startswith("/") or _is_there(Path(image))),
    ):
        if not is_there:
            message = f"run {run_id} cannot be submitted again: its {what}, {path}, is gone"
            raise StoreError(message, "submit its source as a new run")
    manifest = request["snapshot"]["manifest"]
    if not Path(manifest).exists():
        message = f"run {run_id} cannot be submitted again: its snapshot {manifest} is gone"
        raise SnapshotError(message)


def _is_same(folder: str, packages: Mapping[str, Any]) -> bool:
    """Whether an environment holds what a run was given: one may have been built in its place."""
    if not _is_wanted(f"{folder}/{MARKER}"):
        return False
    known = listed(str(Path(folder).parent), packages["key"])
    return any(built.folder == folder and built.lock == packages["lock"] for built in known)


def _is_there(path: Path) -> bool:
    """Whether it is, as far as this user may look."""
    try:
        path.stat()
    except OSError:
        return False
    return True


def _is_wanted(path: str) -> bool:
    """Whether it is there. It is touched: who collects what no run needs spares the young."""
    try:
        os.utime(path)
    except OSError:
        return Path(path).exists()
    return True
