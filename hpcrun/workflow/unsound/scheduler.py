"""What is wrong with how jobs are asked for."""

from __future__ import annotations

from collections.abc import Iterator

from hpcrun.reading import Finding
from hpcrun.site import SchedulerRules, SiteConfig
from hpcrun.site.scheduler import Poll
from hpcrun.variables import NAME, is_heeded
from hpcrun.workflow.unsound.values import at_least, names, sizes

_OF_RUNS = (
    *("--array", "--chdir", "--cpus-per-task", "--gpus", "--gpus-per-node", "--gpus-per-task"),
    *("--job-name", "--nodes", "--ntasks", "--ntasks-per-node", "--open-mode", "--output"),
    *("--signal", "--time"),
)
_COMES_BY_ITSELF = ("forbidden", "ignored", "by_cpus", "by_gpus", "whole_node")


def scheduler(site: SiteConfig) -> Iterator[Finding]:
    """Numbers, directives, and what contradicts itself."""
    rules = site.scheduler
    yield from _numbers(rules)
    yield from _directives(rules)
    yield from names("scheduler.client_env", rules.client_env)
    for name in rules.client_env:
        if name.startswith("SBATCH_"):
            told = f"sbatch would heed {name}, and not what a script says"
            key = f"scheduler.client_env.{name}"
            yield Finding(key, told, "a directive: scheduler.directives.always")
    variable = rules.account.variable
    if variable is not None and not (NAME.match(variable) and is_heeded(variable)):
        told = f"{variable!r} is none of the variables that are heeded"
        yield Finding("scheduler.account.variable", told, "PROJECT or ACCOUNT is in their names")
    memory = rules.memory
    yield from sizes({"scheduler.memory.default": memory.default})
    if memory.default is not None and memory.mode in _COMES_BY_ITSELF:
        told = f"memory is asked for by default, and its mode is {memory.mode}"
        yield Finding("scheduler.memory.default", told, "leave one of them")
    contract = rules.requeue
    if contract.signal is not None and not contract.signal.isalnum():
        yield Finding("scheduler.requeue.signal", f"{contract.signal!r} is no signal", "TERM")


def _numbers(rules: SchedulerRules) -> Iterator[Finding]:
    poll, counts = rules.poll, rules.gpu.allowed_counts
    least: dict[str, tuple[float | None, float]] = {
        f"gpu.allowed_counts[{number}]": (count, 1) for number, count in enumerate(counts)
    }
    least["poll.interval_seconds"] = (poll.interval_seconds, 1)
    least["max_array_size"] = (rules.max_array_size, 0)
    least["max_parallel"] = (rules.max_parallel, 1)
    least["max_jobs"] = (rules.max_jobs, 1)
    least["max_running_jobs"] = (rules.max_running_jobs, 1)
    if poll.max_interval_seconds != Poll().max_interval_seconds:
        least["poll.max_interval_seconds"] = (poll.max_interval_seconds, poll.interval_seconds)
    yield from at_least({f"scheduler.{name}": pair for name, pair in least.items()})
    most, running = rules.max_jobs, rules.max_running_jobs
    if most is not None and running is not None and running > most:
        told = f"{running} jobs may run, and there may be {most} (scheduler.max_jobs)"
        yield Finding("scheduler.max_running_jobs", told, "leave one of them")
    if poll.submit_gap_seconds > 60:
        told = f"{poll.submit_gap_seconds:g} s between two submissions is more than 60"
        yield Finding("scheduler.poll.submit_gap_seconds", told, "at most 60")


def _directives(rules: SchedulerRules) -> Iterator[Finding]:
    told = rules.directives
    for flag in told.forbid:
        if not flag.startswith("--"):
            message = f"{flag!r} is no flag, and would forbid nothing"
            yield Finding(f"scheduler.directives.forbid.{flag}", message, f"--{flag.lstrip('-')}")
    for key, texts in (("always", told.always), ("multi_node", told.multi_node)):
        for text in texts:
            if not text.startswith("--"):
                yield Finding(
                    f"scheduler.directives.{key}",
                    f"{text!r} is no directive",
                    "--hint=nomultithread",
                )
            elif (flag := text.partition("=")[0]) in _OF_RUNS:
                message = f"{flag} says what a run asks for, and would be written twice"
                yield Finding(f"scheduler.directives.{key}", message, "leave it out")
