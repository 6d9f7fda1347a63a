"""Why a job waits, in a researcher's words: Slurm's pending reasons, and what to change. Pure.

Names from src/common/job_state_reason.c, 22.05 to 26.05.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple


class Words(NamedTuple):
    """What a reason means, and what to do; the hint is empty where waiting is all there is."""

    sentence: str
    hint: str = ""


def reason_in_words(reason: str, job_id: str | None = None, hints: Mapping[str, str] = {}) -> Words:
    """A pending reason in words; one that nobody knows, as it is. job_id: for the hint.

    hints: a part of a reason, to what the site says that it means, which comes before ours.
    """
    words = _in_words(reason)
    words = words._replace(hint=next((h for t, h in hints.items() if t in reason), words.hint))
    return words._replace(hint=words.hint.replace(_JOB, job_id)) if job_id else words


def _in_words(reason: str) -> Words:
    # Some reasons are sentences, which scontrol prints with underscores.
    text = reason.strip().strip("()").replace("_", " ")
    code = re.split(r"[ ,:]", text, maxsplit=1)[0]
    if code == "ReqNodeNotAvail":
        return _nodes_not_available(text)
    for pattern, name in _SENTENCES:
        if re.match(pattern, text):
            return _REASONS[name]
    for known in (text, code):
        if known in _REASONS:
            return _REASONS[known]
    return _limit(code) or Words(reason)


_JOB = "<job id>"
_RELEASE = f"`scontrol release {_JOB}`, when it may run"
_STAFF = "ask your cluster's staff why"
_LIMITS = "ask for less, wait for your other jobs, or choose another target"
_NEVER = "it will never start: cancel it, and submit it with "

_OTHER_RESERVATION = _NEVER + "none, or another (`resources.reservation`)"

_REASONS = {
    # It only waits.
    "None": Words("the scheduler has not looked at it yet"),
    "Priority": Words("jobs of higher priority come first"),
    "Resources": Words("it is next, and waits for nodes that are busy"),
    "NodesDown": Words(
        "the nodes it could use are down, drained or reserved for jobs of higher priority",
        "`sinfo -R` tells why; another target may start sooner",
    ),
    "SchedDefer": Words("the scheduler has postponed it to its next full round"),
    "Prolog": Words("its nodes are being prepared"),
    "Cleaning": Words("what an earlier attempt left is being cleared away"),
    "BeginTime": Words(
        "it may not start before its begin time; a requeued job is held back for some minutes"
    ),
    "JobArrayTaskLimit": Words("the array runs as many tasks at once as it may"),
    "FedJobLock": Words("the clusters of the federation are deciding where it runs"),
    "MaxPoweredUpNodes": Words("as many nodes are powered up as may be"),
    "PowerNotAvail": Words("there is not enough electrical power for it now"),
    "PowerReserved": Words("electrical power is kept for a reservation"),
    "MpiPortsBusy": Words("the ports for MPI are in use by other jobs"),
    "NvidiaImexChannels": Words("the channels between GPUs of several nodes are in use"),
    "InactiveLimit": Words("it was idle for too long"),
    # Other jobs.
    "Dependency": Words("a job that it depends on has not ended yet"),
    "DependencyNeverSatisfied": Words(
        "a job that it depends on failed, so it will never start",
        "cancel it, mend that one, and submit it again",
    ),
    # Held.
    "JobHeldUser": Words("it is held by its user", _RELEASE),
    "JobHeldAdmin": Words(
        "it is held by an administrator, or by Slurm after several failed starts", _STAFF
    ),
    "JobHoldMaxRequeue": Words(
        "it was requeued so often that it is held now", "see why it failed, then " + _RELEASE
    ),
    "JobHeldRequeue": Words(
        "it could not be launched (its node's prolog failed), was requeued and is held",
        "no fault of the run, if others start there: tell your cluster's staff, then " + _RELEASE,
    ),
    "JobHeldEnvironment": Words(
        "your environment could not be read on the node, so it was requeued and is held", _STAFF
    ),
    "JobRequeuedHeld": Words("it was requeued with the order to hold it", _RELEASE),
    # Halted while it runs.
    "SUSPENDED": Words(
        "it was halted, by an administrator or for other jobs, and goes on when it is resumed",
        _STAFF + ", if that takes long",
    ),
    "STOPPED": Words("it was halted by a signal", f"`scancel --signal=CONT {_JOB}` lets it go on"),
    # The partition.
    "PartitionDown": Words("the partition takes jobs, but starts none", "choose another target"),
    "PartitionInactive": Words("the partition is out of use", "choose another target"),
    "PartitionNodeLimit": Words(
        "it asks for more or fewer nodes than the partition allows",
        _NEVER + "another number of nodes (`distributed_job_config.node_count`,"
        " `resources.node_count`), or to another target",
    ),
    "PartitionTimeLimit": Words(
        "it asks for more time than the partition allows",
        _NEVER + "less time (`resources.time`), or to another target",
    ),
    "PartitionConfig": Words(
        "the partition's rules do not let it run", "choose another target: " + _STAFF
    ),
    # Nodes and what they have.
    "NodeDown": Words("a node that it needs is down", "`sinfo -R` tells why"),
    "FrontEndDown": Words("no front-end node is up to start it", _STAFF),
    "BadConstraints": Words(
        "no node has all that it asks for",
        _NEVER + "fewer GPUs (`resources.gpus_per_node`), less memory (`resources.memory`) or"
        " other features (`resources.constraint`)",
    ),
    "Constraints": Words(
        "no node that is free now has all that it asks for", "other features may start sooner"
    ),
    "Licenses": Words("the software licenses that it asks for are in use"),
    "BurstBufferResources": Words("the burst buffer is full"),
    "BurstBufferStageIn": Words("its files are being brought to the burst buffer"),
    "BurstBufferOperation": Words("an operation of the burst buffer failed", _STAFF),
    # Reservations.
    "Reservation": Words("it waits for its reservation to begin"),
    "ReservationDeleted": Words("its reservation was deleted", _OTHER_RESERVATION),
    "ReservationInvalid": Words("its reservation cannot be used", _OTHER_RESERVATION),
    # Rights.
    "InvalidAccount": Words(
        "its account is not valid any more",
        "`sacctmgr show associations user=$USER` lists yours; " + _NEVER + "one of them"
        " (`resources.account`)",
    ),
    "InvalidQOS": Words(
        "its QOS is not valid any more",
        "`sacctmgr show associations user=$USER` lists yours; " + _NEVER + "one of them"
        " (`resources.qos`)",
    ),
    "AccountNotAllowed": Words(
        "the partition does not take its account",
        _NEVER + "another account (`resources.account`), or to another target",
    ),
    "QOSNotAllowed": Words(
        "the partition or the account does not take its QOS",
        _NEVER + "another QOS (`resources.qos`), or to another target",
    ),
    "AccountingPolicy": Words("a limit of the accounting forbids it", _LIMITS),
    "QOSUsageThreshold": Words("its QOS has used up its share", "choose another QOS, or wait"),
    # Limits.
    "QOSJobLimit": Words("its QOS runs as many jobs as it may", _LIMITS),
    "QOSResourceLimit": Words("its QOS uses as much as it may", _LIMITS),
    "QOSTimeLimit": Words("its QOS has no time left for it", "ask for less time"),
    "AssociationJobLimit": Words("your account runs as many jobs as it may", _LIMITS),
    "AssociationResourceLimit": Words("your account uses as much as it may", _LIMITS),
    "AssociationTimeLimit": Words("your account has no time left for it", "ask for less time"),
    "MaxMemPerLimit": Words(
        "it asks for more memory than is allowed", _NEVER + "less memory (`resources.memory`)"
    ),
    "DeadLine": Words("it cannot end before its deadline any more", "cancel it"),
    # Of jobs that have ended or come back.
    "SystemFailure": Words("Slurm, its file system or its network failed", _STAFF),
    "JobLaunchFailure": Words(
        "it could not be launched", "a broken node, or a missing folder: see the batch log"
    ),
    "NonZeroExitCode": Words("its program ended with an exit code other than 0"),
    "RaisedSignal": Words("its program was ended by a signal"),
    "TimeLimit": Words("it used up its time"),
    "OutOfMemory": Words("it used more memory than it had asked for", "ask for more memory"),
}

# What src/slurmctld writes in place of a name, 22.05 to 26.05.
_SENTENCES = (
    (r"Nodes required for job are DOWN", "NodesDown"),
    (r"launch fail\w+ .*requeued held", "JobHeldRequeue"),
    (r"user env retrieval failed requeued held", "JobHeldEnvironment"),
    (r"job requeued in (held|special exit) state", "JobRequeuedHeld"),
    (r"Reservation \S+ was deleted", "ReservationDeleted"),
    (r"Reservation \S+ is invalid", "ReservationInvalid"),
    (r"Job's account not", "AccountNotAllowed"),
    (r"Job's QOS not", "QOSNotAllowed"),
    (r"uid \d+ not in group permitted", "PartitionConfig"),
    (r"Job is at or exceeds QOS", "QOSResourceLimit"),
    (r"Job is at or exceeds association", "AssociationResourceLimit"),
)

# QOSMaxGRESPerUser, AssocGrpCPURunMinutesLimit, MaxJobsPerAccount … : whose limit, of what, for
# whom. There are more than a hundred.
_LIMIT = re.compile(
    r"(?P<owner>QOS|Assoc)?(?P<kind>Grp|Max|Min)"
    r"(?P<what>SubmitJobs?|Jobs|WallDuration|Wall|Cpu|CPU|Node|Memory|Mem|GRES|Energy|License|BB"
    r"|Billing|Unknown)"
    r"(?P<minutes>(?:Run)?(?:Minutes|Mins))?"
    r"(?:Per(?P<scope>Job|User|Account|Node))?(?:Limit|NotSatisfied)?\Z"
)

_WHAT = {
    "SubmitJob": "jobs in the queue",
    "SubmitJobs": "jobs in the queue",
    "Jobs": "running jobs",
    "WallDuration": "time",
    "Wall": "time",
    "Cpu": "CPUs",
    "CPU": "CPUs",
    "Node": "nodes",
    "Memory": "memory",
    "Mem": "memory",
    "GRES": "GPUs",
    "Energy": "energy",
    "License": "licenses",
    "BB": "burst buffer",
    "Billing": "billed units",
    "Unknown": "resources",
}

_OWNER = {"QOS": "its QOS", "Assoc": "your account"}

_SCOPE = {
    "Job": "for one job",
    "User": "for all jobs of a user",
    "Account": "for all jobs of an account",
    "Node": "on one node",
    None: "for all jobs together",
}


def _limit(code: str) -> Words | None:
    """A limit's reason: whose it is, what it counts, for whom it counts."""
    match = _LIMIT.match(code)
    if match is None:
        return None
    owner, kind, scope = match["owner"], match["kind"], match["scope"]
    what = _WHAT[match["what"]]
    if match["minutes"]:
        what = f"minutes of {what}"
    whose = _OWNER.get(owner, "a limit of the cluster")
    if kind == "Min":
        return Words(f"it asks for fewer {what} than {whose} wants", "ask for more")
    if kind == "Max" and scope is None and what == "time":
        scope = "Job"
    limit = f"the limit of {whose}" if owner else "a limit of the cluster"
    sentence = f"{limit} on {what} {_SCOPE[scope]} is reached"
    if scope in ("Job", "Node"):
        return Words(sentence.replace("is reached", "is lower than what it asks for"), _LESS)
    return Words(sentence, _LIMITS)


_LESS = "it does not start as it is: ask for less, or choose another target"


def _nodes_not_available(text: str) -> Words:
    """`ReqNodeNotAvail, UnavailableNodes:n[1-4]`, or `…, Reserved for maintenance`."""
    if "maintenance" in text.lower():
        return Words(
            "the nodes are reserved for maintenance, which begins before it could end",
            "ask for less time, or wait until the maintenance is over",
        )
    match = re.search(r"UnavailableNodes:\s*(\S+)", text)
    nodes = match.group(1).rstrip(")") if match else ""
    where = f" ({nodes})" if nodes and nodes != "(null" else ""
    return Words(
        f"nodes that it needs are down, drained or reserved{where}",
        "`sinfo -R` and `scontrol show reservations` tell why; less time or another target may"
        " start sooner",
    )
