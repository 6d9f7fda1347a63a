"""How a job is asked for at a site."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Adapter = Literal["auto", "commands", "pyslurm"]
"""How Slurm is asked: by its commands, or by its library through pyslurm."""


@dataclass(frozen=True)
class Account:
    """When and how --account is written."""

    required: bool = False
    """Whether a job without one is refused."""
    default: str | None = None
    """The account of runs that name none."""
    variable: str | None = None
    """The variable that names it where you submit, such as PAWSEY_PROJECT; `default` is for where
    it is not set. PROJECT or ACCOUNT is in its name."""
    form: str | None = None
    """How accounts are written, for people, such as project_<number>."""
    list_command: str | None = None
    """What you run to see yours."""

    @property
    def known_by(self) -> str:
        """How an account of one's own is found, in words that stand behind others."""
        form = f", such as {self.form}" if self.form else ""
        return form + (f"; `{self.list_command}` lists yours" if self.list_command else "")


@dataclass(frozen=True)
class Gpu:
    """How GPUs are asked for."""

    form: Literal["gpus_per_node", "gres", "total", "per_task", "implicit"] = "gpus_per_node"
    """Which flag: --gpus-per-node, --gres=gpu:, --gpus for all nodes, --gpus-per-task, or none."""
    typed: Literal["never", "optional", "required"] = "optional"
    """Whether the model is part of the request."""
    types: Mapping[str, str] = field(default_factory=dict)
    """Common names of models, to this site's."""
    allowed_counts: tuple[int, ...] = ()
    """The counts per node that are accepted; empty: any."""
    by_constraint: Mapping[str, str] = field(default_factory=dict)
    """Models that are chosen by --constraint, to what is written there."""
    none_constraint: str | None = None
    """The --constraint of jobs without GPUs."""
    whole_nodes: bool = False
    """Whether a job of several nodes must take all GPUs of each."""


@dataclass(frozen=True)
class Memory:
    """How memory is asked for."""

    mode: Literal[
        "optional", "required", "forbidden", "ignored", "by_cpus", "by_gpus", "whole_node"
    ] = "optional"
    """Whether it may, must or must not be asked for; or whether it comes with the CPUs, the GPUs or
    the whole node, and is not asked for."""
    flag: Literal["mem", "mem_per_cpu", "mem_per_gpu"] = "mem"
    """Which flag is written."""
    default: str | None = None
    """What is asked for when the run names none, such as 60G: for each node, CPU or GPU, as the
    flag has it."""


@dataclass(frozen=True)
class Directives:
    """Directives that a site forbids or wants in any case."""

    forbid: Mapping[str, str] = field(default_factory=dict)
    """Flag (such as --mem), or flag and value (such as --partition=compute), to the reason."""
    always: tuple[str, ...] = ()
    """Whole directives (such as --hint=nomultithread)."""
    multi_node: tuple[str, ...] = ()
    """Whole directives of jobs of several nodes."""


@dataclass(frozen=True)
class Poll:
    """How often the scheduler may be asked."""

    interval_seconds: int = 60
    """Between two questions of one user on one host."""
    max_interval_seconds: int = 180
    """Up to which that grows while nothing changes."""
    submit_gap_seconds: float = 0.0
    """Between two submissions of one user on one host, at least; 60 at most."""


@dataclass(frozen=True)
class RequeueRules:
    """What becomes of jobs that others push off their nodes."""

    default: bool | None = None
    """Whether they are requeued when nobody says; absent: that is not known."""
    signal: str | None = None
    """The signal that a job gets first, such as TERM."""
    notice_seconds: int | None = None
    """How long before its end it comes."""
    guaranteed_seconds: int | None = None
    """How long a job runs before it can be pushed off."""


@dataclass(frozen=True)
class SchedulerRules:
    """How a job is asked for at this site."""

    kind: Literal["slurm", "local"] = "slurm"
    """Which scheduler."""
    adapter: Adapter = "commands"
    """How Slurm is asked: by its commands, or by its library through pyslurm; auto takes the
    library where pyslurm is installed and made for the release of the Slurm that runs."""
    account: Account = Account()
    """The rules for accounts."""
    gpu: Gpu = Gpu()
    """The rules for GPUs."""
    memory: Memory = Memory()
    """The rules for memory."""
    directives: Directives = Directives()
    """Forbidden and fixed directives."""
    comment: bool = True
    """Whether a job's comment is ours to write."""
    client_env: Mapping[str, str] = field(default_factory=dict)
    """Variables for sbatch, squeue and their like."""
    poll: Poll = Poll()
    """How often it may be asked."""
    max_array_size: int | None = None
    """MaxArraySize: one more than the greatest index in a job array; default: Slurm is asked."""
    max_parallel: int | None = None
    """How many tasks of a job array may run at a time."""
    max_jobs: int | None = None
    """How many jobs you may have at a time: those that wait, and each task of an array, count."""
    max_running_jobs: int | None = None
    """How many of them run at a time: the others wait."""
    export: Literal["all", "none", "reset"] | None = None
    """What of the submission's environment a job gets: all writes --export=ALL; none writes
    --export=NONE, and lets steps have what the batch script has; reset does only that. Absent:
    nothing is written. What hpcrun submits with is little in any case."""
    requeue: RequeueRules = RequeueRules()
    """What becomes of jobs that others push off."""
    submit_from: Literal["login", "anywhere"] = "anywhere"
    """Whether jobs can submit jobs."""
    accounting: bool = True
    """Whether sacct tells of jobs that have ended; false: it is not asked."""
    error_hints: Mapping[str, str] = field(default_factory=dict)
    """A part of what sbatch says when it refuses a job, or of the reason for which one waits, to
    what that means here."""
