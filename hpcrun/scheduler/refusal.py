"""What sbatch's failure means: the job was refused, nobody was asked, or it is not known.

Slurm's texts (src/common/slurm_errno.c, src/sbatch) are the same from 22.05 to 26.05 unless noted.
Only a text on this list is a refusal: after any other the job may exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from hpcrun.errors import OutcomeUnknown, SchedulerError
from hpcrun.scheduler.command import BUSY, NO_SLURM, Answer, Late, Missing, passes

LOOKED_UP = "the job is looked up by its name before anything else is done"


class Refusal(NamedTuple):
    """A text that tells that there is no job. transient: the same may be taken later."""

    text: str
    hint: str = ""
    transient: bool = False


_NODES = "ask for fewer or smaller nodes: `sinfo` shows what there is"
_OFTEN = "wait until some of your jobs have ended, or submit fewer"

_REFUSALS = (
    Refusal("Could not establish a configuration source", "use a login node of the cluster"),
    Refusal("Invalid partition name specified", "`sinfo` lists the partitions: mend the site file"),
    Refusal("No partition specified or system default partition", "name a partition in the target"),
    Refusal(
        "Invalid account or account/partition combination",
        "`sacctmgr show associations user=$USER` lists your accounts",
    ),
    Refusal("Invalid qos specification", "`sacctmgr show associations user=$USER` lists your QOS"),
    Refusal(
        "Requested time limit is invalid",
        "ask for less time, or choose a target that allows it",
    ),
    Refusal("Requested node configuration is not available", _NODES),
    Refusal("Requested nodes not in this partition", _NODES),
    Refusal("Node count specification invalid", _NODES),
    Refusal("More processors requested than permitted", _NODES),
    Refusal("CPU count specification invalid", _NODES),
    Refusal("Task count specification invalid", _NODES),
    Refusal("Memory required by task is not available", "ask for less memory"),
    Refusal("Memory specification can not be satisfied", "ask for less memory"),
    Refusal("Invalid generic resource (gres) specification", "`sinfo -o '%P %G'` lists the GPUs"),
    Refusal("Invalid GRES specification"),
    Refusal("Duplicate generic resource (gres) specification"),
    Refusal("Invalid Trackable RESource (TRES) specification"),
    Refusal("Invalid feature specification", "`sinfo -o '%P %f'` lists the features"),
    Refusal("Invalid license specification", "`scontrol show licenses` lists the licenses"),
    Refusal("Invalid node name specified", "`sinfo -N` lists the nodes"),
    Refusal("Requested reservation is invalid", "`scontrol show reservations` lists them"),
    Refusal("Access denied to requested reservation", "ask who made the reservation"),
    Refusal("Requested reservation not usable now", "", True),
    Refusal("Job violates accounting/QOS policy", _OFTEN),
    Refusal("MaxJobCount limit reached", "the whole cluster's queue is full: try later", True),
    Refusal("Slurm job queue full", "the whole cluster's queue is full: try later", True),
    Refusal("Requested account has breached requested QOS usage threshold", _OFTEN),
    Refusal("User's group not permitted to use this partition", "choose another target"),
    Refusal("Access/permission denied", "ask your cluster's staff whether you may submit here"),
    Refusal("Required partition not available", "the partition is down: try later", True),
    Refusal("Partition in DOWN state", "the partition is down: try later", True),
    Refusal("Requested partition configuration not available now", "choose another target", True),
    Refusal("Required node not available", "the node is down, drained or reserved", True),
    Refusal("System submissions disabled", "the cluster takes no jobs now: try later", True),
    Refusal("Requested operation is presently disabled", "the cluster takes no jobs now", True),
    Refusal("Job dependency problem", "the job that this one waits for is unknown or has failed"),
    Refusal("Circular job dependency"),
    Refusal("Invalid wckey specification"),
    Refusal("Invalid user id", "the controller does not know you: ask your cluster's staff"),
    Refusal("Invalid group id", "the controller does not know your group: ask the staff"),
    Refusal("Invalid job array specification"),
    Refusal("Invalid mcs_label specified"),
    Refusal("Invalid time specified"),
    Refusal("Job --batch option is invalid"),
    Refusal("Job size specification needs to be provided"),
    Refusal("Job script not specified"),
    Refusal("Job cannot be submitted without the current working directory"),
    Refusal("Pathname of a file, directory or other parameter too long"),
    Refusal("I/O error writing script/environment to file", "tell your cluster's staff", True),
    Refusal("Requested operation not supported on this system"),
    Refusal("Only batch jobs are accepted or processed"),
    Refusal("Burst Buffer request invalid"),
    Refusal("Burst Buffer permission denied"),
    Refusal("Burst Buffer resource limit exceeded"),
    Refusal("Immediate execution impossible"),
    Refusal("Rate limit exceeded", "too many calls: wait a minute", True),
    # A site's own check (job_submit, cli_filter) says what it wants in the lines before this one.
    Refusal("Unspecified error", "the site's own check refused it: its words stand above"),
    Refusal("cli_filter plugin terminated with error", "the site's own check refused it"),
    Refusal("slurmctld size limit", "make the script or its environment smaller"),
    # sbatch itself, before it asks anybody.
    Refusal("Unable to open file"),
    Refusal("This does not look like a batch script"),
    Refusal("Batch script contains DOS line breaks", "convert the file to Unix line ends"),
    Refusal("Batch script is empty"),
    Refusal("unrecognized option", "a directive that this Slurm does not know"),
    Refusal("invalid option", "a directive that this Slurm does not know"),
    Refusal("requires an argument"),
    Refusal("is ambiguous"),
    Refusal("Invalid --", "a directive's value is malformed"),
    Refusal("Invalid numeric value", "a directive's value is malformed"),
    Refusal("is not a valid node count", "a directive's value is malformed"),
    Refusal("mutually exclusive", "two directives exclude each other"),
    Refusal("only permitted by root user"),
    Refusal("Could not open user environment file"),
    Refusal("ClusterName needs to be specified", "SLURM_CONF names no usable slurm.conf"),
    Refusal("Unable to process configuration file", "SLURM_CONF names no usable slurm.conf"),
    # -M needs slurmdbd, and asks it before the job is sent.
    Refusal("can't be reached now, or it is an invalid entry for --cluster", BUSY, True),
    Refusal("Unable to establish configuration source", BUSY, True),
)

_NOT_SENT = "Unable to contact slurm controller (connect failure)"

# sbatch tries up to 15 times by itself, for two minutes; an earlier try may have reached it.
_TRIED_BEFORE = "sleeping and retrying"


def judge(answer: Answer, hints: Mapping[str, str] = {}) -> SchedulerError:
    """The error behind an sbatch that gave no job id.

    hints: a text of a refusal, to what the site says that it means. It comes before ours, and a
    text that only the site knows tells that there is no job as well.
    """
    said = answer.said
    if answer.status <= 0 or (_TRIED_BEFORE in said and passes(said.partition(_TRIED_BEFORE)[2])):
        return unknown(said if answer.status else f"no job id in its output: {said}")
    if _NOT_SENT in said:
        return SchedulerError(f"sbatch: {said}", BUSY, transient=True)
    meant = hint_of(said, hints)
    for refusal in _REFUSALS:
        if refusal.text in said:
            return SchedulerError(f"sbatch: {said}", meant or refusal.hint, refusal.transient)
    return SchedulerError(f"sbatch: {said}", meant) if meant and not passes(said) else unknown(said)


def hint_of(said: str, hints: Mapping[str, str]) -> str:
    """What a site says that these words mean; "" where it says nothing."""
    return next((hint for text, hint in hints.items() if text in said), "")


def unknown(said: str) -> OutcomeUnknown:
    """The error when nobody knows whether there is a job."""
    return OutcomeUnknown(
        f"sbatch did not tell whether the job was taken: {said}", LOOKED_UP, transient=True
    )


def interrupted(error: Late | Missing) -> SchedulerError:
    """The error behind an sbatch that did not end, or did not begin."""
    if isinstance(error, Late):
        return unknown(str(error))
    return SchedulerError(str(error), NO_SLURM)
