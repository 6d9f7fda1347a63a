"""What a Slurm says of its cluster: partitions, nodes, accounts, MPI types. Parsing is pure."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hpcrun.errors import SchedulerError
from hpcrun.scheduler.command import ask, failure
from hpcrun.scheduler.tables import number

TIMEOUT = 30.0
"""Seconds for one of its commands."""


class Node(NamedTuple):
    """A node. memory in MiB; gpu: the model, "" where it is not told; arch as `uname -m` has it."""

    name: str
    cpus: int
    memory: int
    gpus: int
    gpu: str
    arch: str
    partitions: tuple[str, ...]


class Partition(NamedTuple):
    """A partition, as its configuration tells it. Times are Slurm's, None: without a limit.

    nodes_max: None where the partition sets none. tier: those of higher ones push its jobs off,
    if is_preempted. is_open: whether it takes jobs of users now. state: UP, DOWN, DRAIN, INACTIVE.
    size: how many nodes it has. groups, accounts: who alone may use it; empty: everybody. qos: that
    whose limits its jobs have besides. grace_seconds: how long before its end a job that is pushed
    off gets a TERM.
    """

    name: str
    is_default: bool
    nodes_min: int
    nodes_max: int | None
    time_default: str | None
    time_max: str | None
    tier: int
    is_preempted: bool
    is_exclusive: bool
    is_open: bool
    state: str
    is_for_root: bool
    size: int | None
    groups: tuple[str, ...]
    accounts: tuple[str, ...]
    denied_accounts: tuple[str, ...]
    qos: str | None = None
    grace_seconds: int = 0


class JobLimits(NamedTuple):
    """How many jobs a user may have, and how many of them run at a time; None: any number."""

    submitted: int | None = None
    running: int | None = None

    def within(self, other: JobLimits) -> JobLimits:
        """Both at once."""
        return JobLimits(
            *(
                min((n for n in pair if n is not None), default=None)
                for pair in zip(self, other, strict=True)
            )
        )


class Inventory(NamedTuple):
    """A cluster. unknown: what it was asked and did not tell, in words.

    limits: of this user's jobs; None where nobody tells. of_qos: those of each QOS, by its name.

    accounts: those that this user may use, the default one first. mpi: the types srun knows.
    """

    name: str
    release: str
    config: Mapping[str, str]
    partitions: Sequence[Partition]
    nodes: Sequence[Node]
    accounts: Sequence[str]
    mpi: Sequence[str]
    unknown: Sequence[str]
    limits: JobLimits | None = None
    of_qos: Mapping[str, JobLimits] = {}

    @property
    def keeps_records(self) -> bool | None:
        """Whether sacct tells of jobs that have ended; None: that is not told."""
        return keeps_records(self.config)

    @property
    def tracks_memory(self) -> bool:
        """Whether jobs are given memory of their own."""
        return "MEMORY" in self.config.get("SelectTypeParameters", "").upper()

    def nodes_of(self, partition: str) -> Sequence[Node]:
        """The nodes of a partition."""
        return [node for node in self.nodes if partition in node.partitions]


def take_inventory(environ: Mapping[str, str]) -> Inventory:
    """Asks the Slurm of this host: eight commands, once. SchedulerError if it does not answer."""
    config = configuration(said(environ, "scontrol", "show", "config"))
    partitions = partitions_in(said(environ, "scontrol", "--oneliner", "show", "partition"))
    nodes = nodes_in(said(environ, "scontrol", "--oneliner", "show", "node"))
    unknown, mpi, accounts = [], list[str](), list[str]()
    try:
        mpi = mpi_types(said(environ, "srun", "--mpi=list"))
    except SchedulerError as error:
        unknown.append(f"which types of MPI srun knows: {error}")
    try:
        accounts = accounts_of(environ)
    except SchedulerError as error:
        unknown.append(f"which accounts you have: {error}")
    limits, of_qos = None, dict[str, JobLimits]()
    try:
        of_qos = limits_of_qos(environ)
        limits = limits_of(environ, next(iter(accounts), ""), of_qos)
    except SchedulerError as error:
        unknown.append(f"how many jobs you may have: {error}")
    name, release = config.get("ClusterName", ""), config.get("SLURM_VERSION", "")
    return Inventory(
        name, release, config, partitions, nodes, accounts, mpi, unknown, limits, of_qos
    )


_SACCTMGR = ("sacctmgr", "--noheader", "--parsable2", "show")
_OF_QOS = "MaxSubmitJobsPerUser,MaxJobsPerUser"


def limits_of_qos(environ: Mapping[str, str]) -> dict[str, JobLimits]:
    """Those of a user's jobs in each QOS, by its name."""
    return limits_in(said(environ, *_SACCTMGR, "qos", f"format=Name,{_OF_QOS}"))


def limits_of(
    environ: Mapping[str, str], account: str, of_qos: Mapping[str, JobLimits]
) -> JobLimits:
    """How many jobs the user may have by an account, in its default QOS."""
    user = environ.get("USER") or str(os.geteuid())
    fields = "format=Account,MaxSubmitJobs,MaxJobs,DefaultQOS"
    listed = said(environ, *_SACCTMGR, "associations", f"user={user}", fields)
    rows = {row[0]: row for line in listed.splitlines() if (row := line.split("|"))}
    qos = next(iter(rows.get(account, [])[3:]), "") or "normal"
    return limits_in(listed).get(account, JobLimits()).within(of_qos.get(qos, JobLimits()))


def limits_in(output: str) -> dict[str, JobLimits]:
    """`name|submitted|running|…` of each line; what is empty has no limit."""
    rows = [line.split("|") for line in output.splitlines() if line.count("|") >= 2]
    return {row[0]: JobLimits(number(row[1]), number(row[2])) for row in rows}


def keeps_records(config: Mapping[str, str]) -> bool | None:
    """Whether sacct tells of jobs that have ended; None: the configuration does not tell."""
    kind = config.get("AccountingStorageType")
    return None if kind is None else kind not in ("accounting_storage/none", "(null)", "")


def accounts_of(environ: Mapping[str, str]) -> list[str]:
    """The user's accounts, the default one first."""
    user = environ.get("USER") or str(os.geteuid())
    words = ("sacctmgr", "--noheader", "--parsable2", "show")
    default = said(environ, *words, "user", user, "format=DefaultAccount")
    listed = said(environ, *words, "associations", f"user={user}", "format=Account")
    return list(dict.fromkeys([*default.split(), *listed.split()]))


def said(environ: Mapping[str, str], *words: str) -> str:
    """What a command says that must succeed. srun lists its types on standard error (22.05)."""
    answer = ask(words, environ, TIMEOUT)
    if answer.status != 0:
        raise failure(words[0], answer)
    return answer.output or answer.error


def controllers_clock(output: str) -> float | None:
    """The controller's clock, in Unix seconds, of which `scontrol show config` tells the last whole
    one: asked with SLURM_TIME_FORMAT=%s."""
    match = re.match(r"Configuration data as of (\d{9,})$", output, re.MULTILINE)
    return float(match[1]) if match else None


def configuration(output: str) -> dict[str, str]:
    """The settings in `scontrol show config`; what stands in later sections gives way."""
    found: dict[str, str] = {}
    for line in output.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            found.setdefault(name.strip(), value.strip())
    return found


def partitions_in(output: str) -> list[Partition]:
    """The partitions in `scontrol --oneliner show partition`, in its order."""
    return [_partition(fields) for line in output.splitlines() if (fields := _fields(line))]


def nodes_in(output: str) -> list[Node]:
    """The nodes in `scontrol --oneliner show node`."""
    return [
        _node(fields) for line in output.splitlines() if "NodeName" in (fields := _fields(line))
    ]


def mpi_types(output: str) -> list[str]:
    """The types in `srun --mpi=list`, which 22.05 prints a line each and later ones likewise."""
    words = [line.strip() for line in output.splitlines()[1:]]
    named = [word for word in words if word and " " not in word]
    special = re.search(r"specific pmix plugin versions available: (.+)", output)
    return [*named, *(special[1].split(",") if special else ())]


_KEY = re.compile(r"(?:^| )([A-Za-z/:]+)=")


def _fields(line: str) -> dict[str, str]:
    """`Key=value Key=value`; a value may hold spaces."""
    parts = _KEY.split(line)
    return {key: value.strip() for key, value in zip(parts[1::2], parts[2::2], strict=True)}


def _partition(fields: Mapping[str, str]) -> Partition:
    preempted = fields.get("PreemptMode", "OFF") not in ("OFF", "GANG")
    state, is_for_root = fields.get("State", "UP"), fields.get("RootOnly") == "YES"
    return Partition(
        name=fields.get("PartitionName", ""),
        is_default=fields.get("Default") == "YES",
        nodes_min=int(fields.get("MinNodes", "0") or 0),
        nodes_max=number(fields.get("MaxNodes", "")),
        time_default=_time(fields.get("DefaultTime", "")),
        time_max=_time(fields.get("MaxTime", "")),
        tier=number(fields.get("PriorityTier", "")) or 1,
        is_preempted=preempted,
        is_exclusive=fields.get("OverSubscribe", "").startswith("EXCLUSIVE"),
        is_open=state == "UP" and not is_for_root,
        state=state,
        is_for_root=is_for_root,
        size=number(fields.get("TotalNodes", "")),
        groups=_names(fields.get("AllowGroups", "")),
        accounts=_names(fields.get("AllowAccounts", "")),
        denied_accounts=_names(fields.get("DenyAccounts", "")),
        qos=next(iter(_names(fields.get("QoS", "N/A").replace("N/A", ""))), None),
        grace_seconds=number(fields.get("GraceTime", "")) or 0,
    )


def _names(text: str) -> tuple[str, ...]:
    return () if text in ("", "ALL", "(null)", "NONE") else tuple(text.split(","))


def _node(fields: Mapping[str, str]) -> Node:
    gpus: Counter[str] = Counter()
    for model, count in re.findall(r"\bgpu(?::([^:(),]+))?:(\d+)", fields.get("Gres", "")):
        gpus[model] += int(count)
    return Node(
        name=fields["NodeName"],
        cpus=number(fields.get("CPUEfctv", "")) or number(fields.get("CPUTot", "")) or 1,
        memory=number(fields.get("RealMemory", "")) or 0,
        gpus=sum(gpus.values()),
        gpu=next(iter(gpus)) if len(gpus) == 1 else "",
        arch=fields.get("Arch", ""),
        partitions=tuple(filter(None, fields.get("Partitions", "").split(","))),
    )


def _time(text: str) -> str | None:
    return text if text[:1].isdigit() else None
