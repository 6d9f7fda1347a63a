"""What a site file says that no job could be made of. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import date

from hpcrun.config import parse_memory, parse_time
from hpcrun.reading import Finding
from hpcrun.site import LaunchRules, SchedulerRules, SiteConfig, Storage, Target
from hpcrun.site.scheduler import Poll
from hpcrun.variables import NAME


def unsound(site: SiteConfig) -> Iterator[Finding]:
    """Each such thing, with its key."""
    for name, target in site.targets.items():
        limits = target.time
        times = {"default": limits.default, "min": limits.min, "max": limits.max}
        times |= {f"rules[{number}].max": rule.max for number, rule in enumerate(limits.rules)}
        for key, time in times.items():
            yield from _unreadable(f"targets.{name}.time.{key}", time, parse_time)
        yield from _unreadable(f"targets.{name}.node.memory", target.node.memory, parse_memory)
        if limits.default and limits.max and _is_more(limits.default, limits.max):
            message = f"the default, {limits.default}, is above the max, {limits.max}"
            yield Finding(
                f"targets.{name}.time.default", message, "no job could start without its own time"
            )
        yield from _counts(f"targets.{name}", target)
    words = site.shebang.split()
    if not site.shebang.isprintable() or not site.shebang.startswith("/") or len(words) > 2:
        yield Finding(
            "shebang", f"{site.shebang!r} is no interpreter", "a path, and at most one option"
        )
    elif "bash" not in site.shebang:
        yield Finding("shebang", f"scripts are for bash, not for {site.shebang}", "/bin/bash -l")
    for key, variables in (
        ("launch.env", site.launch.env),
        ("launch.gpu_env", site.launch.gpu_env),
        ("launch.single_node_env", site.launch.single_node_env),
        ("launch.multi_node_env", site.launch.multi_node_env),
        ("launch.mpi.env", site.launch.mpi.env),
        *((f"containers.runtimes.{n}.env", r.env) for n, r in site.containers.runtimes.items()),
        ("storage.caches", site.storage.caches),
    ):
        for variable in variables:
            if not NAME.match(variable):
                yield Finding(f"{key}.{variable}", f"{variable!r} is no name for a variable")
    for name, runtime in site.containers.runtimes.items():
        for number, bind in enumerate(runtime.binds):
            if not bind.startswith("/"):
                key = f"containers.runtimes.{name}.binds[{number}]"
                yield Finding(key, f"{bind!r} is no whole path", "/PATH, or /PATH:/PLACE:ro")
    yield from _masters(site.launch)
    yield from _asking(site.scheduler)
    yield from _folders(site.storage)
    if site.valid_until is not None and not _is_day(site.valid_until):
        told = f"{site.valid_until!r} is no day"
        yield Finding("valid_until", told, 'as yyyy-mm-dd, such as "2026-10-15"')
    rules = site.scheduler.directives
    for flag in rules.forbid:
        if not flag.startswith("--"):
            told = f"{flag!r} is no flag, and would forbid nothing"
            yield Finding(f"scheduler.directives.forbid.{flag}", told, f"--{flag.lstrip('-')}")
    for key, texts in (("always", rules.always), ("multi_node", rules.multi_node)):
        for text in texts:
            if not text.startswith("--"):
                told = f"{text!r} is no directive"
                yield Finding(f"scheduler.directives.{key}", told, "--hint=nomultithread")
    if site.default_target is not None and site.default_target not in site.targets:
        told = f"there is no target {site.default_target!r}"
        yield Finding("default_target", told, "", (f"targets.{site.default_target}",))


def _masters(launch: LaunchRules) -> Iterator[Finding]:
    """What is wrong with where the first process is reached."""
    address, port = launch.master_address, launch.master_port
    if address.variable is not None and (address.suffix or address.resolve is not None):
        told = "its variable tells the whole of it: no suffix is written, nothing is resolved"
        yield Finding("launch.master_address", told, "leave out suffix and resolve")
    given = [name for name, value in vars(port).items() if value is not None]
    if len(given) > 1:
        told = f"a port is told by {' and by '.join(given)}"
        yield Finding("launch.master_port", told, "leave one of them")
    if port.number is not None and not 0 < port.number < 65536:
        yield Finding("launch.master_port.number", f"{port.number} is no port", "1 to 65535")
    named = {"master_address": address.variable, "master_port": port.variable}
    for key, variable in named.items():
        if variable is not None and not NAME.match(variable):
            told = f"{variable!r} is no name for a variable"
            yield Finding(f"launch.{key}.variable", told)


def _unreadable(key: str, text: str | None, parse: Callable[[str], object]) -> Iterator[Finding]:
    try:
        if text is not None:
            parse(text)
    except ValueError as error:
        yield Finding(key, str(error))


def _is_more(one: str, other: str) -> bool:
    """Whether a time is longer than another; what is no time is told elsewhere."""
    try:
        return parse_time(one) > parse_time(other)
    except ValueError:
        return False


def _counts(key: str, target: Target) -> Iterator[Finding]:
    """What is wrong with the numbers of a target. key: the target's."""
    nodes, node, times = target.nodes, target.node, target.time
    least: dict[str, tuple[int | None, int]] = {
        "nodes.min": (nodes.min, 1),
        "nodes.max": (nodes.max, nodes.min),
        "node.cpus": (node.cpus, 1),
        "node.gpus": (node.gpus, 0),
        "time.node_minutes": (times.node_minutes, nodes.min),
    }
    for number, rule in enumerate(times.rules):
        least[f"time.rules[{number}].nodes_min"] = (rule.nodes_min, 1)
        least[f"time.rules[{number}].nodes_max"] = (rule.nodes_max, rule.nodes_min)
    yield from _at_least({f"{key}.{name}": pair for name, pair in least.items()})


def _asking(rules: SchedulerRules) -> Iterator[Finding]:
    """What is wrong with the numbers of how Slurm is asked."""
    poll, counts = rules.poll, rules.gpu.allowed_counts
    least: dict[str, tuple[int | None, int]] = {
        f"gpu.allowed_counts[{number}]": (count, 1) for number, count in enumerate(counts)
    }
    least["poll.interval_seconds"] = (poll.interval_seconds, 1)
    least["max_array_size"] = (rules.max_array_size, 0)
    least["max_jobs"] = (rules.max_jobs, 1)
    if poll.max_interval_seconds != Poll().max_interval_seconds:
        least["poll.max_interval_seconds"] = (poll.max_interval_seconds, poll.interval_seconds)
    yield from _at_least({f"scheduler.{name}": pair for name, pair in least.items()})
    if rules.account.default is not None and not rules.account.default.strip():
        yield Finding("scheduler.account.default", "an empty account is none", "leave it out")


def _folders(storage: Storage) -> Iterator[Finding]:
    """Folders that no node would find: these are written as they stand, variables and all."""
    folders = {"node_tmp": storage.node_tmp}
    folders |= {f"data.{name}": path for name, path in storage.data.items()}
    for key, folder in folders.items():
        if not folder.startswith("/") or any(character in folder for character in "$:\n"):
            told = f"{folder!r} is no whole path"
            yield Finding(f"storage.{key}", told, "it begins with /, and has no $, : or line break")


def _at_least(counts: Mapping[str, tuple[int | None, int]]) -> Iterator[Finding]:
    """The numbers that are below the least that they may be."""
    for key, (count, least) in counts.items():
        if count is not None and count < least:
            yield Finding(key, f"{count} is too small", f"at least {least}")


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
