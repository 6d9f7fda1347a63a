"""What the agent was told: the script's variables and run.json. Standard library only (3.8+)."""

from __future__ import annotations

import json
import os
import time
from signal import Signals
from typing import Any, Mapping, NamedTuple, Optional, Tuple

from hpcrun.agent import process
from hpcrun.agent.checkpoints import Rules
from hpcrun.agent.policy import After, Data, Policy, Preflight
from hpcrun.errors import HpcrunError
from hpcrun.layout import (
    ANEW_VARIABLE,
    ATTEMPT_VARIABLE,
    BEGUN_VARIABLE,
    FILES_VARIABLE,
    HOLD_VARIABLE,
    LOCAL,
    RECORD_VARIABLE,
    RESUME_VARIABLE,
    SPOOL_VARIABLE,
    STAGED_VARIABLE,
    WARNED_VARIABLE,
    WORK_VARIABLE,
    Attempt,
    RunPaths,
)

JOB_ID_VARIABLE = "HPCRUN_JOB_ID"
NODELIST_VARIABLE = "HPCRUN_NODELIST"
SLURM_JOB_ID_VARIABLE = "SLURM_JOB_ID"
ARRAY_VARIABLE, INDEX_VARIABLE = "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"


class Snapshot(NamedTuple):
    """Where a snapshot lies: its manifest, and the folder of objects."""

    manifest: str
    objects: str


class Setting(NamedTuple):
    """What the agent was told.

    host: this node's name, unshortened. scheduled: whether Slurm runs this job, and so ends it.
    spool: None if there is none. heartbeat, kill_wait, time_limit: seconds; time_limit is kept by
    the agent where no scheduler does. stop_after: seconds of the job's life after which its ranks
    should stop, where Slurm does not say it. stop_signal: what they get then as well. warned:
    whether Slurm said it before the agent listened. stop_lead: seconds from then to the limit.
    max_duration: seconds that all attempts together may take. resume_from: the checkpoint that this
    submission begins with. resumes_anew: whether it was given for this submission alone.
    checkpoints: what tells the run's own. helpers: the words that start one task on each
    other node. metric_files: the patterns of files to follow (see `follow.patterns`).
    sample_seconds: between two measurements of the node; 0: none. work: where the job works, if
    not in the run's folder. work_is_shared: whether all nodes see the same. staged: the
    folder on each node that holds the environment, if it was brought there. hold: the pipe to those
    who remove it until then (see `staged.take_over`). after: which runs must have ended before.
    preflight: what must be there before the command; None: nobody looks.
    data: the run's inputs and outputs. data_folder: the node's folder for those that are brought.
    problems: what could not be read. begun: when the attempt did, by the monotonic clock.
    """

    paths: RunPaths
    attempt: Attempt
    host: str
    nodes: Tuple[str, ...]
    job_id: str
    scheduled: bool
    spool: Optional[str] = None
    snapshot: Optional[Snapshot] = None
    heartbeat: float = 30.0
    kill_wait: float = 30.0
    time_limit: Optional[float] = None
    stop_after: Optional[float] = None
    stop_signal: Optional[int] = None
    warned: bool = False
    stop_lead: float = 0.0
    requeue: Policy = Policy()
    max_duration: Optional[float] = None
    resume_from: Optional[str] = None
    resumes_anew: bool = False
    checkpoints: Rules = Rules()
    helpers: Tuple[str, ...] = ()
    umask: Optional[int] = None
    metric_files: Tuple[Mapping[str, Any], ...] = ()
    sample_seconds: float = 30.0
    work: Optional[str] = None
    work_is_shared: bool = False
    staged: Optional[str] = None
    hold: Optional[int] = None
    after: Optional[After] = None
    preflight: Optional[Preflight] = None
    run_id: str = ""
    data: Tuple[Data, ...] = ()
    data_folder: Optional[str] = None
    problems: Tuple[str, ...] = ()
    begun: float = 0.0

    @property
    def batch_log(self) -> str:
        """Slurm's own file of this submission."""
        return self.paths.batch_log(self.attempt.submission)

    @property
    def folder(self) -> str:
        """Where the job works."""
        return self.work or self.paths.files

    @property
    def stages_out(self) -> bool:
        """Whether outputs are brought from the nodes at the end."""
        return any(each.output and each.place for each in self.data)

    @property
    def is_first(self) -> bool:
        """Whether this is the first node: the one with the agent."""
        return self.nodes[0].split(".")[0] == self.host.split(".")[0]


def read(environ: Mapping[str, str]) -> Setting:
    """The setting of this process. HpcrunError when a variable is missing or malformed."""
    paths, attempt = _place(environ)
    request, problems = _request(paths.request)
    told = request.get("agent") or {}
    host = os.uname().nodename
    resume_from = environ.get(RESUME_VARIABLE) or None
    local = str(request.get("target", "")).split("/")[0] == LOCAL
    scheduled = SLURM_JOB_ID_VARIABLE in environ and not local
    return Setting(
        paths=paths,
        attempt=attempt,
        host=host,
        nodes=tuple(environ.get(NODELIST_VARIABLE, host).split()),
        job_id=_job_id(environ, scheduled) or f"{os.getpid()}@{host}",
        scheduled=scheduled,
        spool=environ.get(SPOOL_VARIABLE) or None,
        snapshot=_snapshot(request.get("snapshot")),
        heartbeat=_seconds(told, "heartbeat_seconds", 30.0),
        kill_wait=_seconds(told, "kill_wait_seconds", 30.0),
        time_limit=told.get("time_limit_seconds"),
        stop_after=told.get("stop_after_seconds"),
        stop_signal=_signal(told.get("stop_signal")),
        warned=WARNED_VARIABLE in environ,
        stop_lead=_seconds(told, "stop_lead_seconds", 0.0),
        requeue=Policy(**(told.get("requeue") or {})),
        max_duration=told.get("max_duration_seconds"),
        resume_from=resume_from,
        resumes_anew=ANEW_VARIABLE in environ,
        checkpoints=_rules(told.get("checkpoints") or {}),
        helpers=tuple(told.get("node_helpers") or ()),
        umask=_umask(told.get("umask")),
        metric_files=tuple(told.get("metric_files") or ()),
        sample_seconds=_seconds(told, "sample_seconds", 30.0),
        work=None
        if environ.get(WORK_VARIABLE) in ("", paths.files)
        else environ.get(WORK_VARIABLE),
        work_is_shared=bool((request.get("working_directory") or {}).get("shared")),
        staged=environ.get(STAGED_VARIABLE) or None,
        hold=int(environ[HOLD_VARIABLE]) if HOLD_VARIABLE in environ else None,
        after=After.of(request.get("after")),
        preflight=Preflight(**told["preflight"]) if told.get("preflight") else None,
        run_id=str(request.get("run_id", "")),
        data=Data.told(request.get("data")),
        data_folder=_data_folder(request.get("data"), attempt),
        problems=problems,
        begun=_begun(environ.get(BEGUN_VARIABLE)),
    )


def _begun(told: Optional[str]) -> float:
    """told: by the attempt before, where this one is the same process."""
    return float(told) if told else time.monotonic() - process.age()


def _data_folder(told: Optional[Mapping[str, Any]], attempt: Attempt) -> Optional[str]:
    return f"{told['folder']}-{attempt}" if told else None


def _job_id(environ: Mapping[str, str], scheduled: bool) -> Optional[str]:
    """Of an array's task `A_a`: its last one has the array's number, by which all are requeued."""
    if not scheduled:
        return environ.get(JOB_ID_VARIABLE)
    if ARRAY_VARIABLE in environ and INDEX_VARIABLE in environ:
        return f"{environ[ARRAY_VARIABLE]}_{environ[INDEX_VARIABLE]}"
    return environ[SLURM_JOB_ID_VARIABLE]


def _place(environ: Mapping[str, str]) -> Tuple[RunPaths, Attempt]:
    try:
        paths = RunPaths(environ[RECORD_VARIABLE], environ[FILES_VARIABLE])
        return paths, Attempt.parse(environ[ATTEMPT_VARIABLE])
    except KeyError as error:
        raise HpcrunError(f"{error.args[0]} is not set: this is no job of hpcrun") from error
    except ValueError as error:
        raise HpcrunError(
            f"{ATTEMPT_VARIABLE}={environ[ATTEMPT_VARIABLE]} is no attempt"
        ) from error


def _request(path: str) -> Tuple[Mapping[str, Any], Tuple[str, ...]]:
    """run.json; a file that cannot be read is a problem, and everything takes its default."""
    try:
        with open(path, encoding="utf-8") as file:
            request = json.load(file)
    except (OSError, ValueError) as error:
        return {}, (f"cannot read {path}: {error}",)
    if not isinstance(request, dict):
        return {}, (f"{path} holds no request",)
    return request, ()


def _snapshot(told: Optional[Mapping[str, str]]) -> Optional[Snapshot]:
    return Snapshot(told["manifest"], told["objects"]) if told else None


def _seconds(told: Mapping[str, Any], key: str, default: float) -> float:
    value = told.get(key)
    return default if value is None else float(value)


def _rules(told: Mapping[str, Any]) -> Rules:
    return Rules(tuple(told.get("patterns") or ()), told.get("marker"))


def _signal(name: Optional[str]) -> Optional[int]:
    return None if name is None else int(Signals[f"SIG{name.upper()}"])


def _umask(value: Any) -> Optional[int]:
    """A number, or octal digits as text (`0027`)."""
    return int(value, 8) if isinstance(value, str) else value
