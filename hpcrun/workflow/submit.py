"""Submission: the source is kept, the intent is written, the scheduler is called once.

Killed between any two steps, the next look at the run (`refresh`) finds out which job there is,
or that there is none. Nothing is ever submitted a second time by itself.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from hpcrun.errors import BuildError, OutcomeUnknown, SchedulerError, SnapshotError, StoreError
from hpcrun.layout import Attempt, RunPaths, UserPaths
from hpcrun.manifest import Manifest
from hpcrun.plan import Plan
from hpcrun.ports import Scheduler, Submission
from hpcrun.record import RunRecord
from hpcrun.rights import kept_to, umask_of
from hpcrun.snapshot import GitFacts, push, read_manifest, scan
from hpcrun.store import FileStore
from hpcrun.store.sdk import publish
from hpcrun.workflow.cut import WITHDRAWN, first_unknown, this_client
from hpcrun.workflow.prepare import Prepared
from hpcrun.workflow.request import request_of
from hpcrun.workflow.sent import go_on


def submit(
    prepared: Prepared,
    store: FileStore,
    scheduler: Scheduler,
    parent: str | None = None,
    options: Sequence[str] = (),
) -> RunRecord:
    """Submits a run and gives its record.

    parent: the id of the run whose child it becomes. options: the scheduler's own, beside those in
    the script: what holds for this submission alone.
    """
    plan = prepared.plan
    scheduler.check()
    request = keep_source(prepared, store)
    if parent is not None:
        request["parent"] = parent
    attempt = Attempt(plan.submission)
    paths = write_intent(plan, request, prepared.script.text, store)
    if prepared.sent is not None:
        go_on(store, plan.run_id)
    submission = replace(submission_of(plan.run_id, attempt, paths), options=tuple(options))
    hand_over(submission, attempt, paths, store, scheduler)
    return store.read(plan.run_id)


def keep_source(prepared: Prepared, store: FileStore) -> dict[str, Any]:
    """Brings source and environment to the history; gives what becomes run.json."""
    plan, packages = prepared.plan, None
    if prepared.environment is not None:
        from hpcrun.workflow.environments import provide

        folder = str(plan.setting.shared_prefix)
        built = provide(prepared.environment, folder, store, plan.private)
        packages = {"key": built.key, "requirements": built.requirements, "lock": built.lock}
    if plan.setting.packing is not None:
        from hpcrun.workflow.packs import provide_packed

        provide_packed(plan.setting.packing, store, plan.private)
    if prepared.sent is not None:
        room = _room(store, plan.private)
        digest, told = read_manifest(room, prepared.sent.digest).digest, prepared.sent.properties
    else:
        source = prepared.source
        with GitFacts.start(source) as git:
            manifest = scan(source, limits=prepared.limits, leave_out=store.workspace)
            check_entry_point(source, prepared.entry_point, manifest)
            room = _room(store, plan.private)
            with kept_to(room.root):
                push(manifest, source, room)
            digest, told = manifest.digest, git.properties()
    request = request_of(plan, digest, {"ContentSnapshotId": digest, **told}) | this_client()
    request["agent"]["umask"] = f"{umask_of(room.root):04o}"
    if packages is not None:
        request["environment"]["packages"] = packages
    if plan.container is not None and plan.container.is_file:
        request["environment"]["image_file"] = _state(Path(plan.container.image))
    return request


def _state(image: Path) -> dict[str, float] | None:
    """What tells an image from another one that was put in its place."""
    try:
        found = image.stat()
    except OSError:
        return None  # the job will tell of it
    return {"bytes": found.st_size, "modified": found.st_mtime}


def _room(store: FileStore, private: bool) -> UserPaths:
    """The user's folders, with what travels to the nodes in them."""
    room = store.prepare(private)
    with kept_to(store.own.root):
        publish(Path(store.own.sdk))
    return room


def write_intent(plan: Plan, request: Mapping[str, Any], script: str, store: FileStore) -> RunPaths:
    """Writes down that a run is about to be submitted; where that fails, there is no run.

    BuildError: its environment was removed meanwhile. From here on, who prunes sees who needs it.
    """
    paths = store.create(request, script)
    told = {"token": plan.token, **this_client()}
    try:
        _expect_environment(request.get("environment", {}))
        store.append(paths, Attempt(plan.submission), "submitting", told)
    except (BuildError, StoreError):
        store.discard(plan.run_id)
        raise
    return paths


def _expect_environment(told: Mapping[str, Any]) -> None:
    """BuildError where somebody has removed it since it was looked at."""
    from hpcrun.environments.cache import MARKER

    marker = (f"{told['virtual_environment']}/{MARKER}",) if "packages" in told else ()
    packed = (told["packed"],) if "packed" in told else ()
    for path in (*marker, *packed):
        if not Path(path).exists():
            raise BuildError(f"{path} was removed just now", "submit again", transient=True)


def check_entry_point(source: Path, entry_point: str | None, manifest: Manifest) -> None:
    """SnapshotError if the job would not find its script: it is there, but not sent."""
    if entry_point is None:
        return
    root = os.path.realpath(source)
    real = os.path.relpath(os.path.realpath(source / entry_point), root)
    if real not in {file.path for file in manifest.files}:
        raise SnapshotError(
            f"the script {entry_point} is left out of the snapshot",
            ".amlignore or .gitignore may name it; `hpcrun explain --files` lists what is sent",
        )


def submission_of(run_id: str, attempt: Attempt, paths: RunPaths) -> Submission:
    """A run's stored script, for the scheduler."""
    return Submission(
        script=PurePosixPath(paths.script),
        name=run_id,
        folder=PurePosixPath(paths.files),
        log=PurePosixPath(paths.batch_log(attempt.submission)),
    )


def hand_over(
    submission: Submission,
    attempt: Attempt,
    paths: RunPaths,
    store: FileStore,
    scheduler: Scheduler,
    known: Collection[str] = (),
) -> str:
    """Calls the scheduler once, and writes down what it said; gives the job's id.

    known: the jobs of the run's earlier submissions.
    """
    run_id = submission.name
    try:
        with kept_to(paths.owner.root):  # Slurm gives the job the umask of who submits it
            job_id: str = scheduler.submit(submission)
    except OutcomeUnknown as error:
        job_id = _looked_up(error, run_id, attempt, paths, store, scheduler, known)
    except SchedulerError as error:
        refused(error, attempt, paths, store)
        raise
    try:
        store.append(paths, attempt, "submitted", {"job_id": job_id})
    except StoreError as error:
        # The job tells its id itself when it starts.
        raise unwritten(f"run {run_id} is submitted as job {job_id}", error) from error
    return job_id


def refused(error: SchedulerError, attempt: Attempt, paths: RunPaths, store: FileStore) -> None:
    """Who is told that there is no job can rely on it: should there be one, it ends at once."""
    try:
        store.claim(paths, attempt.submission, WITHDRAWN)
        said = {"message": error.message, "hint": error.hint}
        store.append(paths, attempt, "submit_failed", said)
    except StoreError:
        pass  # the scheduler's word is the one to tell; the next look at the run writes it down


def unwritten(submitted: str, error: StoreError) -> StoreError:
    """What it means that the id of a job cannot be written down. submitted: as which job."""
    message = f"{submitted}, which could not be written down: {error.message}"
    return StoreError(message, "do not submit it again")


def not_known_yet(what: str, run_id: str, error: OutcomeUnknown) -> OutcomeUnknown:
    """What it means that a client failed and nobody knows of a job. what: the runs, and has."""
    return OutcomeUnknown(
        f"{error.message}; whether {what} is not known yet",
        f"`hpcrun show {run_id}` looks again; do not submit it a second time",
        transient=True,
    )


def _looked_up(
    error: OutcomeUnknown,
    run_id: str,
    attempt: Attempt,
    paths: RunPaths,
    store: FileStore,
    scheduler: Scheduler,
    known: Collection[str],
) -> str:
    """A client that failed may have submitted all the same: the job is looked up by its name."""
    try:
        found = first_unknown(scheduler.find(run_id), known)
    except SchedulerError:
        found = None
    if found is not None:
        return found
    try:
        store.append(paths, attempt, "submit_unknown", {"message": error.message})
    except StoreError:
        pass
    raise not_known_yet(f"run {run_id} has a job", run_id, error) from error
