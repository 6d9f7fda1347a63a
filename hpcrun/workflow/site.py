"""The site and target that a run names, read from site files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hpcrun.assets import Assets, Templates
from hpcrun.errors import ConfigError, Problem, SiteError
from hpcrun.names import split_target
from hpcrun.reading import Finding, Layer, Read, read_layer, read_layers
from hpcrun.site import SiteConfig
from hpcrun.site.target import Override
from hpcrun.workflow.unsound import unsound

Stack = list[tuple[int, Layer]]


def load_site(name: str, assets: Assets, target: str | None = None) -> SiteConfig:
    """The site of that name. SiteError with all problems of its files at once.

    target: the site is as that target wants it.
    """
    stack = _stack(name, assets)
    site = _site(name, [layer for _, layer in stack])
    return site if target is None else _as_wanted(site, target, stack)


def problems_of(name: str, assets: Assets) -> list[Problem]:
    """All that is wrong with a site's files, and with what each of its targets wants.

    SiteError, ConfigError where they cannot be read at all.
    """
    stack = _stack(name, assets)
    read = _read(name, [layer for _, layer in stack])
    found = [*read.problems]
    for target, rules in read.value.targets.items():
        if rules.override != Override():
            found += _read(name, _wanted(target, stack)).problems
    return list(dict.fromkeys(found))


def _as_wanted(site: SiteConfig, target: str, stack: Stack) -> SiteConfig:
    """The site as a target wants it; one that there is not wants nothing."""
    if target not in site.targets or site.targets[target].override == Override():
        return site
    return _site(site.id, _wanted(target, stack))


def _wanted(target: str, stack: Stack) -> list[Layer]:
    """What a site is made of as a target wants it.

    What a file's targets want counts less than the file that hides it: who writes one of their own
    means all that it says.
    """
    last = {hidden: number for number, (hidden, _) in enumerate(stack)}
    layers: list[Layer] = []
    for number, (hidden, layer) in enumerate(stack):
        layers.append(layer)
        if last[hidden] == number:
            parts = (one.part("targets", target, "override") for h, one in stack if h == hidden)
            layers += filter(None, parts)
    return layers


def _site(name: str, layers: Sequence[Layer]) -> SiteConfig:
    return _read(name, layers).sound(SiteError).value


def _read(name: str, layers: Sequence[Layer]) -> Read[SiteConfig]:
    read = read_layers(SiteConfig, layers, SiteError)
    site = read.value
    misnamed = [
        Finding(key, f"{key} is {given!r}", why)
        for key, given, wanted, why in (
            ("schema_version", site.schema_version, 1, "it must be 1"),
            ("id", site.id, name, f"the file's name says {name!r}"),
        )
        if given != wanted
    ]
    return read.with_findings([*misnamed, *unsound(site)])


def layers_of(name: str, assets: Assets) -> list[Layer]:
    """The files that a site is made of, the lowest first."""
    return [layer for _, layer in _stack(name, assets)]


def _stack(
    name: str, assets: Assets, place: int = 0, hidden: int = 0, above: Sequence[str] = ()
) -> Stack:
    """As `layers_of`. place: of those files that have its name. hidden: how many of the site's own
    files lie above, which is told of each."""
    files = assets.site(name)
    text, file = files[place]
    layer = read_layer(text, file, SiteError)
    stack: Stack = []
    for base, origin in layer.texts("inherits").items():
        next_place = place + 1 if base == name else 0
        if base == name and next_place == len(files):
            raise SiteError(
                Problem(f"it inherits {name}, and hides no file of that name", "", file)
            )
        if base != name and base in above:
            raise SiteError(Problem(f"{base} and {name} inherit each other", "", file))
        below = hidden + (base == name and set(above) <= {name})
        try:
            stack += _stack(base, assets, next_place, below, (*above, name))
        except ConfigError as error:  # there is no such site
            told = (one._replace(file=origin.source, line=origin.line) for one in error.problems)
            raise SiteError(*told) from None
    return [*stack, (hidden, layer)]


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
        for base in reversed([*read_layer(text, file, SiteError).texts("inherits")]):
            if base != name:
                yield from _lineage(base, assets)


def choose_target(name: str | None, assets: Assets) -> tuple[SiteConfig, str]:
    """The site, and the name of one of its targets. ConfigError names the nearest ones."""
    site_name, target = split_target(name)
    stack = _stack(site_name, assets)
    site = _site(site_name, [layer for _, layer in stack])
    if not site.targets:
        hint = "other site files build on it; `hpcrun sites list` shows those that can be named"
        raise ConfigError(Problem(f"site {site.id} has no targets", hint))
    target = target or site.default_target
    if target is None:
        known = ", ".join(f"{site.id}/{known}" for known in site.targets)
        raise ConfigError(Problem(f"site {site.id} has no default target", f"choose of {known}"))
    if target not in site.targets:
        known = ", ".join(f"{site.id}/{known}" for known in site.targets)
        raise ConfigError(Problem(f"site {site.id} has no target {target!r}", f"it has {known}"))
    return _as_wanted(site, target, stack), target
