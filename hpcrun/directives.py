"""The directives of a job, spelled by the site's rules: the one place that knows sbatch's flags.

Pure. Directives are data; templates place them, and `script` checks that none was lost.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from hpcrun.flags import LETTERS, obstacles
from hpcrun.reading import Finding
from hpcrun.site import SchedulerRules

SBATCH = "#SBATCH"

WARNING = "USR1"
"""The signal by which Slurm tells the agent that the time limit is near."""


WITHOUT_GPUS = tuple(
    word
    for name in ("SLURM_GPUS", "SLURM_GPUS_PER_NODE", "SLURM_GPUS_PER_TASK")
    for word in ("-u", name)
)
"""env's words: what asks for GPUs in a job's variables contradicts --gres=none (22.05)."""


def one_on_each(nodes: int, *where: str) -> tuple[str, ...]:
    """The srun that starts a small task on each of so many nodes, beside all others."""
    return (
        *("srun", "--overlap", *where, f"--nodes={nodes}", f"--ntasks={nodes}"),
        *("--ntasks-per-node=1", "--cpus-per-task=1", "--mem=0", "--gres=none"),
    )


class Directive(NamedTuple):
    """One directive: its flag, and its value unless it has none."""

    flag: str
    value: str | None = None

    @property
    def line(self) -> str:
        """As sbatch reads it in a script's header.

        sbatch splits the line as a shell does, but expands nothing (22.05): double quotes hold a
        value together, a backslash takes the next character as it is.
        """
        return f"{SBATCH} {self.text}"

    @property
    def text(self) -> str:
        """The flag and its value as one word."""
        if self.value is None:
            return self.flag
        if all(c.isalnum() or c in "_@%+=:,./-[]&|*!" for c in self.value):
            return f"{self.flag}={self.value}"
        escaped = self.value.replace("\\", "\\\\").replace('"', '\\"')
        return f'{self.flag}="{escaped}"'


@dataclass(frozen=True)
class Job:
    """What is asked of the scheduler.

    memory is in bytes, per node; 0 means all of it. warning: how long before the time limit the
    batch script gets a signal. requeue: whether it may be requeued; None: as the cluster has it.
    gres: parts of --gres besides GPUs. of_storage: whole directives for the nodes' disks.
    """

    name: str
    log: str
    folder: str
    nodes: int = 1
    tasks_per_node: int = 1
    cpus_per_task: int | None = None
    gpus_per_node: int = 0
    gpu_type: str | None = None
    memory: int | None = None
    exclusive: bool = False
    time: timedelta | None = None
    warning: timedelta | None = None
    requeue: bool | None = None
    partition: str | None = None
    qos: str | None = None
    account: str | None = None
    constraint: str | None = None
    reservation: str | None = None
    mail_types: tuple[str, ...] = ()
    mail_user: str | None = None
    comment: str | None = None
    gres: tuple[str, ...] = ()
    of_storage: tuple[str, ...] = ()
    extra: Mapping[str, str | None] = field(default_factory=dict)


def directives(job: Job, rules: SchedulerRules) -> tuple[Directive, ...]:
    """The directives of a job, in the order in which people read them."""
    if rules.kind == "local":
        return ()
    given = [*_identity(job), *_size(job, rules), *_place(job), *_mail(job)]
    if rules.export in ("all", "none"):
        given.append(Directive("--export", rules.export.upper()))
    of_several = rules.directives.multi_node if job.nodes > 1 else ()
    texts = (*rules.directives.always, *of_several, *job.of_storage)
    always = [Directive(*_split(text)) for text in texts]
    return (*given, *always, *(Directive(flag, value) for flag, value in job.extra.items()))


def options_of_submission(log: str, comment: str | None) -> tuple[str, ...]:
    """What differs from the script's directives when it is handed over once more, for sbatch."""
    lines = [Directive("--output", _file_name(log))]
    if comment is not None:
        lines.append(Directive("--comment", comment))
    return tuple(f"{line.flag}={line.value}" for line in lines)


def forbidden(
    lines: tuple[Directive, ...], rules: SchedulerRules, site: str
) -> tuple[Finding, ...]:
    """Each directive that the site forbids, with the site's reason. Its key is the flag."""
    reasons = rules.directives.forbid
    return tuple(
        Finding(line.flag, f"{site} does not accept {named}", reasons[named])
        for line in lines
        for named in (line.flag, f"{line.flag}={line.value}")
        if named in reasons
    )


def unwritable(lines: tuple[Directive, ...]) -> tuple[Finding, ...]:
    """Each directive that no line of a script can hold. Its key is the flag."""
    return tuple(
        Finding(line.flag, f"the value of {line.flag} holds {what}: {line.value!r}")
        for line in lines
        for what in obstacles(line.text)
    )


def written_twice(lines: tuple[Directive, ...], site: str) -> tuple[Finding, ...]:
    """Each directive whose flag stands in an earlier one: sbatch would heed the last (22.05).

    Its key is the flag.
    """
    first: dict[str, Directive] = {}
    findings = []
    for line in lines:
        before = first.setdefault(line.flag, line)
        if before is not line:
            message = f"{line.flag} would be written twice, as {before.text} and {line.text}"
            hint = f"one is of the site file of {site}, or of your sbatch section"
            findings.append(Finding(line.flag, message, hint))
    return tuple(findings)


def format_time(time: timedelta) -> str:
    """D-HH:MM:SS, rounded up to a second."""
    seconds = -int(-time.total_seconds() // 1)
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f"{days}-{hour:02d}:{minute:02d}:{second:02d}"


def format_memory(size: int) -> str:
    """Slurm's form with the largest unit that loses nothing; its units are binary."""
    for unit, factor in (("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20)):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{-(-size // 1024)}K" if size else "0"


def flags_of(line: str) -> Iterator[tuple[str, str | None]]:
    """(flag, value) of all flags in a header's line; sbatch takes several from one."""
    splitter = shlex.shlex(line.removeprefix(SBATCH), posix=True)
    splitter.whitespace_split = True
    splitter.escapedquotes = "\"'"
    for word in splitter:
        letter = word[1:2]
        if word.startswith("-") and letter in LETTERS:
            yield f"--{LETTERS[letter]}", word[2:] or None
        else:
            flag, equals, value = word.partition("=")
            yield flag, value if equals else None


def _identity(job: Job) -> Iterator[Directive]:
    yield Directive("--job-name", job.name)
    if job.comment is not None:
        yield Directive("--comment", job.comment)
    yield Directive("--chdir", job.folder)
    yield Directive("--output", _file_name(job.log))
    # A requeue truncates the file otherwise.
    yield Directive("--open-mode", "append")


def _file_name(path: str) -> str:
    """A path as Slurm wants it where it knows %-patterns (22.05).

    %% is a per cent sign; but a backslash anywhere turns patterns off, and itself must be doubled.
    """
    return path.replace("\\", "\\\\") if "\\" in path else path.replace("%", "%%")


def _size(job: Job, rules: SchedulerRules) -> Iterator[Directive]:
    yield Directive("--nodes", str(job.nodes))
    yield Directive("--ntasks-per-node", str(job.tasks_per_node))
    if job.cpus_per_task is not None:
        yield Directive("--cpus-per-task", str(job.cpus_per_task))
    yield from _gpus(job, rules)
    if job.memory is not None and rules.memory.mode not in ("forbidden", "ignored"):
        yield _memory(job.memory, job, rules)
    if job.exclusive:
        yield Directive("--exclusive")
        if job.memory is None and rules.memory.mode == "optional":
            # --exclusive alone gives only the default memory (sbatch manual).
            yield Directive("--mem", "0")
    if job.time is not None:
        yield Directive("--time", format_time(job.time))
    if job.warning is not None:
        # Without B: it would reach the steps, and kill what does not catch it (22.05).
        yield Directive("--signal", f"B:{WARNING}@{int(job.warning.total_seconds())}")
    if job.requeue is not None:
        yield Directive("--requeue" if job.requeue else "--no-requeue")


def _memory(size: int, job: Job, rules: SchedulerRules) -> Directive:
    """Memory of a node, as the site wants it said."""
    shares = {
        "mem": 1,
        "mem_per_cpu": job.tasks_per_node * (job.cpus_per_task or 1),
        "mem_per_gpu": job.gpus_per_node,
    }
    share = shares[rules.memory.flag] if size else 0
    if not share:
        return Directive("--mem", format_memory(size))
    flag = f"--{rules.memory.flag.replace('_', '-')}"
    return Directive(flag, format_memory(size if share == 1 else _whole_mebibytes(size, share)))


def _whole_mebibytes(size: int, shares: int) -> int:
    """A share of it, rounded up to what Slurm counts in."""
    return -(-size // (shares << 20)) << 20


def _gpus(job: Job, rules: SchedulerRules) -> Iterator[Directive]:
    """What is asked for GPUs, and for other generic resources."""
    form = rules.gpu.form if job.gpus_per_node else "implicit"
    model = "" if rules.gpu.typed == "never" or job.gpu_type is None else f"{job.gpu_type}:"
    gres = [f"gpu:{model}{job.gpus_per_node}"] if form == "gres" else []
    if gres or job.gres:
        yield Directive("--gres", ",".join((*gres, *job.gres)))
    if form == "total":
        yield Directive("--gpus", f"{model}{job.gpus_per_node * job.nodes}")
    elif form == "per_task":
        yield Directive("--gpus-per-task", f"{model}{job.gpus_per_node // job.tasks_per_node}")
    elif form == "gpus_per_node":
        yield Directive("--gpus-per-node", f"{model}{job.gpus_per_node}")


def _place(job: Job) -> Iterator[Directive]:
    for flag, value in (
        ("--partition", job.partition),
        ("--qos", job.qos),
        ("--account", job.account),
        ("--constraint", job.constraint),
        ("--reservation", job.reservation),
    ):
        if value is not None:
            yield Directive(flag, value)


def _mail(job: Job) -> Iterator[Directive]:
    if job.mail_types:
        yield Directive("--mail-type", ",".join(job.mail_types))
        if job.mail_user is not None:
            yield Directive("--mail-user", job.mail_user)


def _split(text: str) -> tuple[str, str | None]:
    flag, equals, value = text.partition("=")
    return flag, value if equals else None
