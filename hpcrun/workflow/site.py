"""The site and target that a run names, read from site files."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hpcrun.assets import Assets
from hpcrun.config import parse_memory, parse_time
from hpcrun.errors import ConfigError, Problem, SiteError
from hpcrun.plan import split_target
from hpcrun.reading import Finding, read_partly
from hpcrun.site import SiteConfig
from hpcrun.variables import NAME


def load_site(name: str, assets: Assets) -> SiteConfig:
    """The site of that name. SiteError with all problems of its file at once."""
    text, file = assets.site(name)
    read = read_partly(SiteConfig, text, file, error=SiteError)
    site = read.value
    if site.schema_version != 1:
        raise SiteError(Problem(f"schema_version is {site.schema_version}", "it must be 1", file))
    if site.id != name:
        raise SiteError(Problem(f"id is {site.id!r}", f"the file's name says {name!r}", file))
    return read.with_findings(_wrong(site)).sound(SiteError).value


def _wrong(site: SiteConfig) -> Iterator[Finding]:
    """What a site file says that no job could be made of."""
    for name, target in site.targets.items():
        limits = target.time
        for key, time in (("default", limits.default), ("min", limits.min), ("max", limits.max)):
            yield from _unreadable(f"targets.{name}.time.{key}", time, parse_time)
        yield from _unreadable(f"targets.{name}.node.memory", target.node.memory, parse_memory)
        if limits.default and limits.max and _is_more(limits.default, limits.max):
            message = f"the default, {limits.default}, is above the max, {limits.max}"
            yield Finding(
                f"targets.{name}.time.default", message, "no job could start without its own time"
            )
        most = target.nodes.max
        if most is not None and most < target.nodes.min:
            yield Finding(f"targets.{name}.nodes.max", f"the max, {most}, is below the min")
    words = site.shebang.split()
    if not site.shebang.isprintable() or not site.shebang.startswith("/") or len(words) > 2:
        yield Finding(
            "shebang", f"{site.shebang!r} is no interpreter", "a path, and at most one option"
        )
    elif "bash" not in site.shebang:
        yield Finding("shebang", f"scripts are for bash, not for {site.shebang}", "/bin/bash -l")
    for key, variables in (
        ("launch.env", site.launch.env),
        ("launch.multi_node_env", site.launch.multi_node_env),
        ("launch.mpi.env", site.launch.mpi.env),
    ):
        for variable in variables:
            if not NAME.match(variable):
                yield Finding(f"{key}.{variable}", f"{variable!r} is no name for a variable")
    for text in site.scheduler.directives.always:
        if not text.startswith("--"):
            yield Finding(
                "scheduler.directives.always", f"{text!r} is no directive", "--hint=nomultithread"
            )
    if site.default_target is not None and site.default_target not in site.targets:
        told = f"there is no target {site.default_target!r}"
        yield Finding("default_target", told, "", (f"targets.{site.default_target}",))


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


def choose_target(name: str | None, assets: Assets) -> tuple[SiteConfig, str]:
    """The site, and the name of one of its targets. ConfigError names the nearest ones."""
    site_name, target = split_target(name)
    site = load_site(site_name, assets)
    target = target or site.default_target
    if target is None:
        known = ", ".join(f"{site.id}/{known}" for known in site.targets)
        raise ConfigError(Problem(f"site {site.id} has no default target", f"choose of {known}"))
    if target not in site.targets:
        known = ", ".join(f"{site.id}/{known}" for known in site.targets)
        raise ConfigError(Problem(f"site {site.id} has no target {target!r}", f"it has {known}"))
    return site, target
