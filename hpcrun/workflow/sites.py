"""The sites that are known, what is known of one, and whether a site file is sound."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path, PurePath
from typing import NamedTuple

from hpcrun.assets import Assets
from hpcrun.config import RunConfiguration
from hpcrun.errors import HpcrunError, Problem, SiteError
from hpcrun.reading import Layer, nearest, read_layers, read_value, scalars
from hpcrun.resolve import resolve
from hpcrun.resolve.surroundings import Surroundings
from hpcrun.script import CONTAINER_FOLDER, render
from hpcrun.site import SiteConfig, Source, source_of
from hpcrun.variables import is_heeded, named_in
from hpcrun.workflow.doubts import closed
from hpcrun.workflow.finding import Finding
from hpcrun.workflow.places import objections, place_of
from hpcrun.workflow.site import layers_of, load_site, problems_of, templates_of
from hpcrun.workflow.smallest import smallest
from hpcrun.workflow.unsound import contradictions

UNSOURCED = (
    "schema_version",
    "id",
    "title",
    "inherits",
    "docs_url",
    "sources",
    "hints",
    "default_target",
)
"""What a site file says of itself, which needs no source."""


_SOMEBODY = Surroundings("user", "login", 0.0, "", "/usr/bin/python3", "/history", "/source")
_RUN_ID = "check_1700000000_01234567"


class Fact(NamedTuple):
    """A value of a site file, where it stands, and the source that says so."""

    key: str
    value: str
    origin: str
    source: Source | None


def facts_of(name: str, assets: Assets) -> list[Fact]:
    """All that the files of a site say. SiteError if they cannot be read."""
    load_site(name, assets)
    layers = layers_of(name, assets)
    speaking = {layer.file: _speaking(layers, number) for number, layer in enumerate(layers)}
    return [
        Fact(key, text, str(origin), _source(key, *speaking[origin.source]))
        for key, text, origin in scalars(layers)
        if not _is_below(key, ("sources",))
    ]


@dataclass(frozen=True)
class _Sourced:
    """A site file, of which only its sources are wanted."""

    sources: tuple[Source, ...] = ()


def _source(key: str, own: Sequence[Source], named: Sequence[Source]) -> Source | None:
    return source_of(key, own) or source_of(key, named)


def _speaking(layers: Sequence[Layer], number: int) -> tuple[Sequence[Source], Sequence[Source]]:
    """Who says what stands in a file: whom it names, or a file below it in the same folder, which
    the same people keep; else whom files on top of it name for single fields.

    So whoever replaces one value of others' files takes no source of theirs for it.
    """
    folder = PurePath(layers[number].file).parent
    near = [one for one in layers[: number + 1] if PurePath(one.file).parent == folder]
    above = _sources_of(layers[number + 1 :])
    return _sources_of(near), [source for source in above if source.fields]


def _sources_of(layers: Sequence[Layer]) -> Sequence[Source]:
    wanted = [layer.only("sources") for layer in layers]
    return read_layers(_Sourced, wanted, SiteError).value.sources if wanted else ()


def check_file(path: Path, assets: Assets) -> list[Finding]:
    """What is wrong or doubtful about a site file, which counts as if it stood in its place."""
    if path.suffix != ".yaml":
        return [
            Finding("error", "file", f"{path}: the name of a site file ends in .yaml", "rename it")
        ]
    name, beside = path.name.removesuffix(".yaml"), assets.with_file(path)
    try:
        problems: Sequence[Problem] = problems_of(name, beside)
    except HpcrunError as error:
        problems = getattr(error, "problems", ()) or (Problem(str(error)),)
    if problems:
        return [Finding("error", "file", str(problem)) for problem in problems]
    site = load_site(name, beside)
    findings = [*_unsourced(name, beside), *_dated(site), *_stored(site), *_made(site, beside)]
    facts = facts_of(name, beside)
    places = {fact.key: fact.origin for fact in facts}
    heeded = {each for fact in facts for each in named_in(fact.value) if is_heeded(each)}
    somebody = replace(_SOMEBODY, environ={each: f"/{each}" for each in heeded})
    for target in site.targets:
        as_wanted = load_site(name, beside, target)
        wrong = [*_contradicting(as_wanted, target, places)]
        findings += wrong or _tried(as_wanted, target, beside, somebody)
    targets = ", ".join(site.targets) or "none"
    return [*findings, Finding("ok", f"site {name}", f"can be read; its targets: {targets}")]


def _contradicting(site: SiteConfig, target: str, places: Mapping[str, str]) -> Iterator[Finding]:
    """What a target says against its site as it wants it. places: where each key stands."""
    for key, message, cure in contradictions(site, target):
        told = places.get(f"targets.{target}.override.{key}", places.get(key, key))
        yield Finding("error", f"targets.{target}", f"{told}: {message}", cure)


def _unsourced(name: str, assets: Assets) -> Iterator[Finding]:
    for fact in facts_of(name, assets):
        if fact.source is None and not _is_below(fact.key, UNSOURCED):
            told = f"{fact.key} = {fact.value} has no source"
            yield Finding("warning", fact.origin, told, "name it in `sources`, with `fields`")
        elif fact.source is not None and fact.source.grade == "C":
            told = f"{fact.key} = {fact.value} is of third parties"
            yield Finding("warning", fact.origin, told, "put it under `hints` until it is tried")


def _dated(site: SiteConfig) -> Iterator[Finding]:
    if closed(site, date.today()):
        told = f"{site.id} was said to close on {site.valid_until}"
        yield Finding("warning", "valid_until", told, "look whether it is still there")


def _stored(site: SiteConfig) -> Iterator[Finding]:
    storage, history = site.storage, site.storage.run_history_root
    if history is None:
        return
    told = {name: place_of(root, {}) for name, root in storage.roots.items()}
    places = {name: place for name, place in told.items() if place is not None}
    for message, cure in objections(history, storage, places):
        yield Finding("error", "storage.run_history_root", message, cure)


def _made(site: SiteConfig, assets: Assets) -> Iterator[Finding]:
    """What it says of container runtimes that have no template."""
    names = templates_of(site, assets).names
    known = [PurePath(each).name.partition(".")[0] for each in names if CONTAINER_FOLDER in each]
    told = {"containers.runtime": site.containers.runtime}
    told |= {f"containers.runtimes.{name}": name for name in site.containers.runtimes}
    told |= {f"environments.{name}.runtime": one.runtime for name, one in site.environments.items()}
    for key, runtime in told.items():
        if runtime is not None and runtime not in known:
            message = f"there is no template {CONTAINER_FOLDER}{runtime}.sh.j2"
            yield Finding("error", key, message, nearest(runtime, known))


def _tried(
    site: SiteConfig, target: str, assets: Assets, around: Surroundings
) -> Iterator[Finding]:
    """What keeps the smallest run on a target, and one on two nodes, from being written."""
    rules = site.scheduler.account
    given = "account" if rules.required and rules.default is None else None
    told = set()
    for nodes in (1, 2):
        config = smallest(site, target, ["true"], Path(), nodes=nodes, account=given)
        try:
            asked = read_value(RunConfiguration, config)
            plan = resolve(asked, site, target, around, _RUN_ID, "/sdk")
            if nodes == 1:
                render(plan, templates_of(site, assets).load)
        except HpcrunError as error:
            told |= {str(problem) for problem in getattr(error, "problems", ()) or (error,)}
    for message in sorted(told):
        yield Finding("error", f"targets.{target}", f"not even a small run: {message}")


def _is_below(key: str, names: Sequence[str]) -> bool:
    return any(key == name or key.startswith((f"{name}.", f"{name}[")) for name in names)
