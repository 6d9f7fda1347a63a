"""The site and target that a run names, read from site files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from hpcrun.assets import Assets, Templates
from hpcrun.config import parse_memory, parse_time
from hpcrun.errors import ConfigError, Problem, SiteError
from hpcrun.plan import split_target
from hpcrun.reading import Finding, Layer, read_layer, read_layers
from hpcrun.site import LaunchRules, SiteConfig
from hpcrun.site.target import Override
from hpcrun.variables import NAME


def load_site(name: str, assets: Assets, target: str | None = None) -> SiteConfig:
    """The site of that name. SiteError with all problems of its files at once.

    target: the site is as that target wants it.
    """
    layers = layers_of(name, assets)
    site = _site(name, layers)
    return site if target is None else _as_wanted(site, target, layers)


def _as_wanted(site: SiteConfig, target: str, layers: Sequence[Layer]) -> SiteConfig:
    """The site as a target wants it; one that there is not wants nothing."""
    if target not in site.targets or site.targets[target].override == Override():
        return site
    wanted = [part for layer in layers if (part := layer.part("targets", target, "override"))]
    return _site(site.id, (*layers, *wanted))


def _site(name: str, layers: Sequence[Layer]) -> SiteConfig:
    read = read_layers(SiteConfig, layers, SiteError)
    site = read.value
    for key, given, wanted, why in (
        ("schema_version", site.schema_version, 1, "it must be 1"),
        ("id", site.id, name, f"the file's name says {name!r}"),
    ):
        if given != wanted:
            raise SiteError(read.problem(Finding(key, f"{key} is {given!r}", why)))
    return read.with_findings(_wrong(site)).sound(SiteError).value


def layers_of(name: str, assets: Assets, place: int = 0, above: Sequence[str] = ()) -> list[Layer]:
    """The files that a site is made of, the lowest first. place: of those that have its name."""
    files = assets.site(name)
    text, file = files[place]
    layer = read_layer(text, file, SiteError)
    layers: list[Layer] = []
    for base in layer.texts("inherits"):
        next_place = place + 1 if base == name else 0
        if base == name and next_place == len(files):
            raise SiteError(
                Problem(f"it inherits {name}, and hides no file of that name", "", file)
            )
        if base != name and base in above:
            raise SiteError(Problem(f"{base} and {name} inherit each other", "", file))
        layers += layers_of(base, assets, next_place, (*above, name))
    return [*layers, layer]


def templates_of(site: SiteConfig, assets: Assets) -> Templates:
    """The templates that count for a site: its own come before those of what it inherits."""
    names = [site.id]
    for base in reversed(site.inherits):
        names += [name for name in _lineage(base, assets) if name not in names]
    return assets.templates(*names)


def _lineage(name: str, assets: Assets) -> Iterator[str]:
    """A site's name, then those that it inherits, the top one first."""
    yield name
    for text, file in assets.site(name):
        for base in reversed(read_layer(text, file, SiteError).texts("inherits")):
            if base != name:
                yield from _lineage(base, assets)


def _wrong(site: SiteConfig) -> Iterator[Finding]:
    """What a site file says that no job could be made of."""
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
        ("launch.gpu_env", site.launch.gpu_env),
        ("launch.single_node_env", site.launch.single_node_env),
        ("launch.multi_node_env", site.launch.multi_node_env),
        ("launch.mpi.env", site.launch.mpi.env),
        ("storage.caches", site.storage.caches),
    ):
        for variable in variables:
            if not NAME.match(variable):
                yield Finding(f"{key}.{variable}", f"{variable!r} is no name for a variable")
    yield from _wrong_masters(site.launch)
    rules = site.scheduler.directives
    for key, texts in (("always", rules.always), ("multi_node", rules.multi_node)):
        for text in texts:
            if not text.startswith("--"):
                told = f"{text!r} is no directive"
                yield Finding(f"scheduler.directives.{key}", told, "--hint=nomultithread")
    if site.default_target is not None and site.default_target not in site.targets:
        told = f"there is no target {site.default_target!r}"
        yield Finding("default_target", told, "", (f"targets.{site.default_target}",))


def _wrong_masters(launch: LaunchRules) -> Iterator[Finding]:
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


def choose_target(name: str | None, assets: Assets) -> tuple[SiteConfig, str]:
    """The site, and the name of one of its targets. ConfigError names the nearest ones."""
    site_name, target = split_target(name)
    layers = layers_of(site_name, assets)
    site = _site(site_name, layers)
    target = target or site.default_target
    if target is None:
        known = ", ".join(f"{site.id}/{known}" for known in site.targets)
        raise ConfigError(Problem(f"site {site.id} has no default target", f"choose of {known}"))
    if target not in site.targets:
        known = ", ".join(f"{site.id}/{known}" for known in site.targets)
        raise ConfigError(Problem(f"site {site.id} has no target {target!r}", f"it has {known}"))
    return _as_wanted(site, target, layers), target
